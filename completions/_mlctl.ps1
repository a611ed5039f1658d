
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'mlctl' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'mlctl'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'mlctl' {
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('train', 'train', [CompletionResultType]::ParameterValue, 'Train a model and save it as a new version')
            [CompletionResult]::new('save', 'save', [CompletionResultType]::ParameterValue, 'Save a model as a further version directory')
            [CompletionResult]::new('convert', 'convert', [CompletionResultType]::ParameterValue, 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original')
            [CompletionResult]::new('quantize', 'quantize', [CompletionResultType]::ParameterValue, 'Quantize a model (convert with a scheme)')
            [CompletionResult]::new('predict', 'predict', [CompletionResultType]::ParameterValue, 'Run a model on pictures, arrays or numbers')
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Run a model on pictures, arrays or numbers')
            [CompletionResult]::new('inspect', 'inspect', [CompletionResultType]::ParameterValue, 'Show what is in a model: inputs, outputs, ops, sizes, metadata')
            [CompletionResult]::new('compare', 'compare', [CompletionResultType]::ParameterValue, 'Run two models on the same inputs and show how far their outputs are apart')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measure how fast a model runs')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Serve models over TensorFlow Serving''s and KServe''s REST and gRPC APIs')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completions for a shell')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'mlctl;train' {
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Folder with the four IDX files of MNIST''s layout, plain or .gz; or the word mnist')
            [CompletionResult]::new('--epochs', '--epochs', [CompletionResultType]::ParameterName, 'Passes over the training samples [default: 3]')
            [CompletionResult]::new('--batch-size', '--batch-size', [CompletionResultType]::ParameterName, 'Samples of one step [default: 32]')
            [CompletionResult]::new('--optimizer', '--optimizer', [CompletionResultType]::ParameterName, 'sgd, with --momentum and --nesterov [default: sgd]')
            [CompletionResult]::new('--learning-rate', '--learning-rate', [CompletionResultType]::ParameterName, 'Step size [default: 0.01]')
            [CompletionResult]::new('--momentum', '--momentum', [CompletionResultType]::ParameterName, 'Share of the last step that is kept [default: 0]')
            [CompletionResult]::new('--seed', '--seed', [CompletionResultType]::ParameterName, 'Seed of weights and shuffling [default: 42]')
            [CompletionResult]::new('--validation', '--validation', [CompletionResultType]::ParameterName, 'Share below 1, or number, of the training samples kept for validation [default: 5000]')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Model directory [default: the recipe''s name, here]')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'Model directory [default: the recipe''s name, here]')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--nesterov', '--nesterov', [CompletionResultType]::ParameterName, 'Look ahead by the momentum (Nesterov)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;save' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Model directory that gets the version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Version number [default: the next free one]')
            [CompletionResult]::new('--labels', '--labels', [CompletionResultType]::ParameterName, 'Class names, one a line')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--no-saved-model', '--no-saved-model', [CompletionResultType]::ParameterName, 'Leave out the SavedModel, which takes as much room again')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;convert' {
            [CompletionResult]::new('--quantize', '--quantize', [CompletionResultType]::ParameterName, 'Quantize: f16, w8, w4 (weights), dynamic (int8 weights, int8 products), int8, int16x8 (weights and activations, calibrated on samples); for tfjs f16, uint8, uint16, also for the weights that a glob names, the first that is for a weight deciding: --quantize f16=*bias --quantize uint8')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]')
            [CompletionResult]::new('--labels', '--labels', [CompletionResultType]::ParameterName, 'Class names, one a line, for the file''s metadata [default: the model''s]')
            [CompletionResult]::new('--set', '--set', [CompletionResultType]::ParameterName, 'Fix a dimension that the model leaves open, by its name (may be repeated)')
            [CompletionResult]::new('--tolerance', '--tolerance', [CompletionResultType]::ParameterName, 'Largest allowed difference, relative to the output''s largest value [default: 1e-5, f16: 2e-2]')
            [CompletionResult]::new('--layout', '--layout', [CompletionResultType]::ParameterName, 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]')
            [CompletionResult]::new('--weight-shard-size', '--weight-shard-size', [CompletionResultType]::ParameterName, 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]')
            [CompletionResult]::new('--metadata', '--metadata', [CompletionResultType]::ParameterName, 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)')
            [CompletionResult]::new('--calibrate', '--calibrate', [CompletionResultType]::ParameterName, 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]')
            [CompletionResult]::new('--samples', '--samples', [CompletionResultType]::ParameterName, 'Use at most so many samples, spread evenly over the data [default: 500]')
            [CompletionResult]::new('--ranges-by', '--ranges-by', [CompletionResultType]::ParameterName, 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]')
            [CompletionResult]::new('--ranges', '--ranges', [CompletionResultType]::ParameterName, 'Ranges that --save-ranges wrote, in place of samples')
            [CompletionResult]::new('--save-ranges', '--save-ranges', [CompletionResultType]::ParameterName, 'Write the ranges, by tensor, as JSON')
            [CompletionResult]::new('--io', '--io', [CompletionResultType]::ParameterName, 'Type of the file''s inputs and outputs [default: float32]')
            [CompletionResult]::new('--keep-float', '--keep-float', [CompletionResultType]::ParameterName, 'Layers whose name this matches stay float32 (may be repeated)')
            [CompletionResult]::new('--max-drop', '--max-drop', [CompletionResultType]::ParameterName, 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error''s share of the outputs'' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error''s share of the outputs'' power in the worst run [default there: 0.05%; w4: 100%]')
            [CompletionResult]::new('--block-size', '--block-size', [CompletionResultType]::ParameterName, 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone')
            [CompletionResult]::new('--plot', '--plot', [CompletionResultType]::ParameterName, 'Draw what each layer loses, and the values of the worst beside where they are clipped')
            [CompletionResult]::new('--scale', '--scale', [CompletionResultType]::ParameterName, 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]')
            [CompletionResult]::new('--mean', '--mean', [CompletionResultType]::ParameterName, 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406')
            [CompletionResult]::new('--std', '--std', [CompletionResultType]::ParameterName, 'Divides after the mean was subtracted')
            [CompletionResult]::new('--input-layout', '--input-layout', [CompletionResultType]::ParameterName, 'Order of the model''s input axes')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--frozen', '--frozen', [CompletionResultType]::ParameterName, 'SavedModel: the weights as constants of the graph, not as variables')
            [CompletionResult]::new('--no-verify', '--no-verify', [CompletionResultType]::ParameterName, 'Keep the file without running it')
            [CompletionResult]::new('--demo', '--demo', [CompletionResultType]::ParameterName, 'Add a page that runs the model on a drawn digit or a picture: index.html')
            [CompletionResult]::new('--per-tensor', '--per-tensor', [CompletionResultType]::ParameterName, 'One scale for all weights of a layer, not one a channel')
            [CompletionResult]::new('--no-equalization', '--no-equalization', [CompletionResultType]::ParameterName, 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other')
            [CompletionResult]::new('--no-bias-correction', '--no-bias-correction', [CompletionResultType]::ParameterName, 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer''s mean')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;quantize' {
            [CompletionResult]::new('--scheme', '--scheme', [CompletionResultType]::ParameterName, 'f16, w8, w4: float16, int8, int4 weights; dynamic: int8 weights, int8 products; int8, int16x8: weights and activations, calibrated on samples; for tfjs f16, uint8, uint16, also for the weights that a glob names')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]')
            [CompletionResult]::new('--labels', '--labels', [CompletionResultType]::ParameterName, 'Class names, one a line, for the file''s metadata [default: the model''s]')
            [CompletionResult]::new('--set', '--set', [CompletionResultType]::ParameterName, 'Fix a dimension that the model leaves open, by its name (may be repeated)')
            [CompletionResult]::new('--tolerance', '--tolerance', [CompletionResultType]::ParameterName, 'Largest allowed difference, relative to the output''s largest value [default: 1e-5, f16: 2e-2]')
            [CompletionResult]::new('--layout', '--layout', [CompletionResultType]::ParameterName, 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]')
            [CompletionResult]::new('--weight-shard-size', '--weight-shard-size', [CompletionResultType]::ParameterName, 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]')
            [CompletionResult]::new('--metadata', '--metadata', [CompletionResultType]::ParameterName, 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)')
            [CompletionResult]::new('--calibrate', '--calibrate', [CompletionResultType]::ParameterName, 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]')
            [CompletionResult]::new('--samples', '--samples', [CompletionResultType]::ParameterName, 'Use at most so many samples, spread evenly over the data [default: 500]')
            [CompletionResult]::new('--ranges-by', '--ranges-by', [CompletionResultType]::ParameterName, 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]')
            [CompletionResult]::new('--ranges', '--ranges', [CompletionResultType]::ParameterName, 'Ranges that --save-ranges wrote, in place of samples')
            [CompletionResult]::new('--save-ranges', '--save-ranges', [CompletionResultType]::ParameterName, 'Write the ranges, by tensor, as JSON')
            [CompletionResult]::new('--io', '--io', [CompletionResultType]::ParameterName, 'Type of the file''s inputs and outputs [default: float32]')
            [CompletionResult]::new('--keep-float', '--keep-float', [CompletionResultType]::ParameterName, 'Layers whose name this matches stay float32 (may be repeated)')
            [CompletionResult]::new('--max-drop', '--max-drop', [CompletionResultType]::ParameterName, 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error''s share of the outputs'' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error''s share of the outputs'' power in the worst run [default there: 0.05%; w4: 100%]')
            [CompletionResult]::new('--block-size', '--block-size', [CompletionResultType]::ParameterName, 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone')
            [CompletionResult]::new('--plot', '--plot', [CompletionResultType]::ParameterName, 'Draw what each layer loses, and the values of the worst beside where they are clipped')
            [CompletionResult]::new('--scale', '--scale', [CompletionResultType]::ParameterName, 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]')
            [CompletionResult]::new('--mean', '--mean', [CompletionResultType]::ParameterName, 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406')
            [CompletionResult]::new('--std', '--std', [CompletionResultType]::ParameterName, 'Divides after the mean was subtracted')
            [CompletionResult]::new('--input-layout', '--input-layout', [CompletionResultType]::ParameterName, 'Order of the model''s input axes')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--frozen', '--frozen', [CompletionResultType]::ParameterName, 'SavedModel: the weights as constants of the graph, not as variables')
            [CompletionResult]::new('--no-verify', '--no-verify', [CompletionResultType]::ParameterName, 'Keep the file without running it')
            [CompletionResult]::new('--demo', '--demo', [CompletionResultType]::ParameterName, 'Add a page that runs the model on a drawn digit or a picture: index.html')
            [CompletionResult]::new('--per-tensor', '--per-tensor', [CompletionResultType]::ParameterName, 'One scale for all weights of a layer, not one a channel')
            [CompletionResult]::new('--no-equalization', '--no-equalization', [CompletionResultType]::ParameterName, 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other')
            [CompletionResult]::new('--no-bias-correction', '--no-bias-correction', [CompletionResultType]::ParameterName, 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer''s mean')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;predict' {
            [CompletionResult]::new('-m', '-m', [CompletionResultType]::ParameterName, '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Classes to show')
            [CompletionResult]::new('--top-k', '--top-k', [CompletionResultType]::ParameterName, 'Classes to show')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Save the raw outputs by name, as .npz (or .npy)')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'Save the raw outputs by name, as .npz (or .npy)')
            [CompletionResult]::new('--scale', '--scale', [CompletionResultType]::ParameterName, 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]')
            [CompletionResult]::new('--mean', '--mean', [CompletionResultType]::ParameterName, 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406')
            [CompletionResult]::new('--std', '--std', [CompletionResultType]::ParameterName, 'Divides after the mean was subtracted')
            [CompletionResult]::new('--input-layout', '--input-layout', [CompletionResultType]::ParameterName, 'Order of the model''s input axes')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;run' {
            [CompletionResult]::new('-m', '-m', [CompletionResultType]::ParameterName, '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Classes to show')
            [CompletionResult]::new('--top-k', '--top-k', [CompletionResultType]::ParameterName, 'Classes to show')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Save the raw outputs by name, as .npz (or .npy)')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'Save the raw outputs by name, as .npz (or .npy)')
            [CompletionResult]::new('--scale', '--scale', [CompletionResultType]::ParameterName, 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]')
            [CompletionResult]::new('--mean', '--mean', [CompletionResultType]::ParameterName, 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406')
            [CompletionResult]::new('--std', '--std', [CompletionResultType]::ParameterName, 'Divides after the mean was subtracted')
            [CompletionResult]::new('--input-layout', '--input-layout', [CompletionResultType]::ParameterName, 'Order of the model''s input axes')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;inspect' {
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;compare' {
            [CompletionResult]::new('--tolerance', '--tolerance', [CompletionResultType]::ParameterName, 'Exit with 3 if an output differs by more than this share of its largest value')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Run on these, as predict takes inputs, or on mnist [default: what suits the reference]')
            [CompletionResult]::new('--sort', '--sort', [CompletionResultType]::ParameterName, 'Order of the layers: as they run, or the largest difference first')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--per-layer', '--per-layer', [CompletionResultType]::ParameterName, 'Compare what every node computes, too')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;bench' {
            [CompletionResult]::new('--runs', '--runs', [CompletionResultType]::ParameterName, 'Counted runs of each thread [default: about a second''s worth]')
            [CompletionResult]::new('--batch', '--batch', [CompletionResultType]::ParameterName, 'Rows of one run')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Show the time of each node')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;serve' {
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'Address to listen on; 0.0.0.0 is every one [default: 127.0.0.1]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port of the gRPC API; 0 takes a free one')
            [CompletionResult]::new('--rest_api_port', '--rest_api_port', [CompletionResultType]::ParameterName, 'Port of the REST API; 0 takes a free one [default: 8501]')
            [CompletionResult]::new('--model_name', '--model_name', [CompletionResultType]::ParameterName, 'Name of the model in URLs [default: the folder''s name; with --model_base_path MODEL_NAME, or ''default'']')
            [CompletionResult]::new('--model_base_path', '--model_base_path', [CompletionResultType]::ParameterName, 'The same as MODEL_DIR')
            [CompletionResult]::new('--model_config_file', '--model_config_file', [CompletionResultType]::ParameterName, 'Several models, with policies and labels: model_config_list { config { … } }; with it, --model_name and --model_base_path mean nothing')
            [CompletionResult]::new('--model_config_file_poll_wait_seconds', '--model_config_file_poll_wait_seconds', [CompletionResultType]::ParameterName, 'How often the config file is looked at; 0 is never')
            [CompletionResult]::new('--file_system_poll_wait_seconds', '--file_system_poll_wait_seconds', [CompletionResultType]::ParameterName, 'How often the folders are looked at; 0 is once')
            [CompletionResult]::new('--traffic', '--traffic', [CompletionResultType]::ParameterName, 'Split a model''s requests that name no version between labels or versions, for an A/B test: half=stable:90,canary:10; again for another model')
            [CompletionResult]::new('--shadow', '--shadow', [CompletionResultType]::ParameterName, 'Run copies of those requests on this label or version too: the answers are compared and counted in the metrics, not returned')
            [CompletionResult]::new('--traffic_config_file', '--traffic_config_file', [CompletionResultType]::ParameterName, 'The same as a file: traffic { model split { label weight } shadow { label percent } }; read again with the model config')
            [CompletionResult]::new('--traffic_sticky_header', '--traffic_sticky_header', [CompletionResultType]::ParameterName, 'Requests with the same value of this header (gRPC: metadata) go to the same label')
            [CompletionResult]::new('--allow_version_labels_for_unavailable_models', '--allow_version_labels_for_unavailable_models', [CompletionResultType]::ParameterName, 'Labels may name versions that are not available yet')
            [CompletionResult]::new('--enable_batching', '--enable_batching', [CompletionResultType]::ParameterName, 'Put requests that wait together into one run')
            [CompletionResult]::new('--batching_parameters_file', '--batching_parameters_file', [CompletionResultType]::ParameterName, 'max_batch_size, batch_timeout_micros, max_enqueued_batches, num_batch_threads, allowed_batch_sizes')
            [CompletionResult]::new('--monitoring_config_file', '--monitoring_config_file', [CompletionResultType]::ParameterName, 'prometheus_config { enable path }')
            [CompletionResult]::new('--ssl_config_file', '--ssl_config_file', [CompletionResultType]::ParameterName, 'TLS on the gRPC port: server_key, server_cert, custom_ca (PEM text), client_verify')
            [CompletionResult]::new('--tls-cert', '--tls-cert', [CompletionResultType]::ParameterName, 'TLS on both ports: the server''s certificate and those above it, in PEM; SIGHUP reads it again')
            [CompletionResult]::new('--tls-key', '--tls-key', [CompletionResultType]::ParameterName, 'Its private key, in PEM')
            [CompletionResult]::new('--tls-client-ca', '--tls-client-ca', [CompletionResultType]::ParameterName, 'Takes clients alone whose certificate one of these signed (mutual TLS)')
            [CompletionResult]::new('--rest_api_timeout_in_ms', '--rest_api_timeout_in_ms', [CompletionResultType]::ParameterName, 'Time for a request over REST; over gRPC its client says it')
            [CompletionResult]::new('--rest_api_num_threads', '--rest_api_num_threads', [CompletionResultType]::ParameterName, 'Threads that speak with clients [default: all cores]')
            [CompletionResult]::new('--max-queue', '--max-queue', [CompletionResultType]::ParameterName, 'Requests of one version that may wait without --enable_batching; more get 429')
            [CompletionResult]::new('--max_queue_delay_ms', '--max_queue_delay_ms', [CompletionResultType]::ParameterName, 'Time that requests may wait for their run: one that would wait longer gets 429, and where that goes on the queue is held to about one run; 0 is any time [default: 1000, or eight runs where they take longer]')
            [CompletionResult]::new('--max-body', '--max-body', [CompletionResultType]::ParameterName, 'Size of a request, also unpacked; a larger one gets 413')
            [CompletionResult]::new('--max_request_memory', '--max_request_memory', [CompletionResultType]::ParameterName, 'Bytes that all requests may hold together, as bodies and as tensors; more get 429 [default: half of the memory here, and two of --max-body at least]')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'Connections at the same time')
            [CompletionResult]::new('--grace', '--grace', [CompletionResultType]::ParameterName, 'Time to answer what runs when the server is to end')
            [CompletionResult]::new('--api_key_file', '--api_key_file', [CompletionResultType]::ParameterName, 'Answer only who has a key of FILE')
            [CompletionResult]::new('--cors_allow_origin', '--cors_allow_origin', [CompletionResultType]::ParameterName, 'Let pages of ORIGIN (https://example.org) ask from a browser; repeat for others, * is any')
            [CompletionResult]::new('--rest_api_enable_cors_support', '--rest_api_enable_cors_support', [CompletionResultType]::ParameterName, 'The same as --cors_allow_origin=*')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--health_check', '--health_check', [CompletionResultType]::ParameterName, 'Ask the server that runs here whether it is ready, and end: 0 where it is, 1 where not')
            [CompletionResult]::new('--access-log', '--access-log', [CompletionResultType]::ParameterName, 'Print a line of JSON on stderr for each request')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;completions' {
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'Threads to use [default: all cores]')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document on stdout, nothing else')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print results and errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'mlctl;help' {
            [CompletionResult]::new('train', 'train', [CompletionResultType]::ParameterValue, 'Train a model and save it as a new version')
            [CompletionResult]::new('save', 'save', [CompletionResultType]::ParameterValue, 'Save a model as a further version directory')
            [CompletionResult]::new('convert', 'convert', [CompletionResultType]::ParameterValue, 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original')
            [CompletionResult]::new('quantize', 'quantize', [CompletionResultType]::ParameterValue, 'Quantize a model (convert with a scheme)')
            [CompletionResult]::new('predict', 'predict', [CompletionResultType]::ParameterValue, 'Run a model on pictures, arrays or numbers')
            [CompletionResult]::new('inspect', 'inspect', [CompletionResultType]::ParameterValue, 'Show what is in a model: inputs, outputs, ops, sizes, metadata')
            [CompletionResult]::new('compare', 'compare', [CompletionResultType]::ParameterValue, 'Run two models on the same inputs and show how far their outputs are apart')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measure how fast a model runs')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Serve models over TensorFlow Serving''s and KServe''s REST and gRPC APIs')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completions for a shell')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'mlctl;help;train' {
            break
        }
        'mlctl;help;save' {
            break
        }
        'mlctl;help;convert' {
            break
        }
        'mlctl;help;quantize' {
            break
        }
        'mlctl;help;predict' {
            break
        }
        'mlctl;help;inspect' {
            break
        }
        'mlctl;help;compare' {
            break
        }
        'mlctl;help;bench' {
            break
        }
        'mlctl;help;serve' {
            break
        }
        'mlctl;help;completions' {
            break
        }
        'mlctl;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
