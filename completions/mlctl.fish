# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mlctl_global_optspecs
    string join \n json q/quiet v/verbose threads= h/help V/version
end

function __fish_mlctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mlctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mlctl_using_subcommand
    set -l cmd (__fish_mlctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mlctl -n "__fish_mlctl_needs_command" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_needs_command" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_needs_command" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_needs_command" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_needs_command" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_needs_command" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "train" -d 'Train a model and save it as a new version'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "save" -d 'Save a model as a further version directory'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "convert" -d 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "quantize" -d 'Quantize a model (convert with a scheme)'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "predict" -d 'Run a model on pictures, arrays or numbers'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "run" -d 'Run a model on pictures, arrays or numbers'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "inspect" -d 'Show what is in a model: inputs, outputs, ops, sizes, metadata'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "compare" -d 'Run two models on the same inputs and show how far their outputs are apart'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "bench" -d 'Measure how fast a model runs'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "serve" -d 'Serve models over TensorFlow Serving\'s and KServe\'s REST and gRPC APIs'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c mlctl -n "__fish_mlctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l data -d 'Folder with the four IDX files of MNIST\'s layout, plain or .gz; or the word mnist' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l epochs -d 'Passes over the training samples [default: 3]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l batch-size -d 'Samples of one step [default: 32]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l optimizer -d 'sgd, with --momentum and --nesterov [default: sgd]' -r -f -a "sgd\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l learning-rate -d 'Step size [default: 0.01]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l momentum -d 'Share of the last step that is kept [default: 0]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l seed -d 'Seed of weights and shuffling [default: 42]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l validation -d 'Share below 1, or number, of the training samples kept for validation [default: 5000]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -s o -l out -d 'Model directory [default: the recipe\'s name, here]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l nesterov -d 'Look ahead by the momentum (Nesterov)'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlctl -n "__fish_mlctl_using_subcommand train" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l to -d 'Model directory that gets the version' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l version -d 'Version number [default: the next free one]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l labels -d 'Class names, one a line' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l no-saved-model -d 'Leave out the SavedModel, which takes as much room again'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand save" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l quantize -d 'Quantize: f16, w8, w4 (weights), dynamic (int8 weights, int8 products), int8, int16x8 (weights and activations, calibrated on samples); for tfjs f16, uint8, uint16, also for the weights that a glob names, the first that is for a weight deciding: --quantize f16=*bias --quantize uint8' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l to -d 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads' -r -f -a "tflite\t''
tfjs\t''
saved-model\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -s o -l out -d 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l labels -d 'Class names, one a line, for the file\'s metadata [default: the model\'s]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l set -d 'Fix a dimension that the model leaves open, by its name (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l tolerance -d 'Largest allowed difference, relative to the output\'s largest value [default: 1e-5, f16: 2e-2]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l layout -d 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures' -r -f -a "keep\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l data -d 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l weight-shard-size -d 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l metadata -d 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l calibrate -d 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l samples -d 'Use at most so many samples, spread evenly over the data [default: 500]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l ranges-by -d 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l ranges -d 'Ranges that --save-ranges wrote, in place of samples' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l save-ranges -d 'Write the ranges, by tensor, as JSON' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l io -d 'Type of the file\'s inputs and outputs [default: float32]' -r -f -a "float32\t''
int8\t''
uint8\t''
int16\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l keep-float -d 'Layers whose name this matches stay float32 (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l max-drop -d 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error\'s share of the outputs\' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error\'s share of the outputs\' power in the worst run [default there: 0.05%; w4: 100%]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l block-size -d 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l plot -d 'Draw what each layer loses, and the values of the worst beside where they are clipped' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l scale -d 'Multiplies the pixel (0 to 255) [default: the model\'s record, or 1/255]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l mean -d 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l std -d 'Divides after the mean was subtracted' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l input-layout -d 'Order of the model\'s input axes' -r -f -a "nchw\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l frozen -d 'SavedModel: the weights as constants of the graph, not as variables'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l no-verify -d 'Keep the file without running it'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l demo -d 'Add a page that runs the model on a drawn digit or a picture: index.html'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l per-tensor -d 'One scale for all weights of a layer, not one a channel'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l no-equalization -d 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l no-bias-correction -d 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer\'s mean'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand convert" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l scheme -d 'f16, w8, w4: float16, int8, int4 weights; dynamic: int8 weights, int8 products; int8, int16x8: weights and activations, calibrated on samples; for tfjs f16, uint8, uint16, also for the weights that a glob names' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l to -d 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads' -r -f -a "tflite\t''
tfjs\t''
saved-model\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -s o -l out -d 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l labels -d 'Class names, one a line, for the file\'s metadata [default: the model\'s]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l set -d 'Fix a dimension that the model leaves open, by its name (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l tolerance -d 'Largest allowed difference, relative to the output\'s largest value [default: 1e-5, f16: 2e-2]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l layout -d 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures' -r -f -a "keep\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l data -d 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l weight-shard-size -d 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l metadata -d 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l calibrate -d 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l samples -d 'Use at most so many samples, spread evenly over the data [default: 500]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l ranges-by -d 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l ranges -d 'Ranges that --save-ranges wrote, in place of samples' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l save-ranges -d 'Write the ranges, by tensor, as JSON' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l io -d 'Type of the file\'s inputs and outputs [default: float32]' -r -f -a "float32\t''
int8\t''
uint8\t''
int16\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l keep-float -d 'Layers whose name this matches stay float32 (may be repeated)' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l max-drop -d 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error\'s share of the outputs\' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error\'s share of the outputs\' power in the worst run [default there: 0.05%; w4: 100%]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l block-size -d 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l plot -d 'Draw what each layer loses, and the values of the worst beside where they are clipped' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l scale -d 'Multiplies the pixel (0 to 255) [default: the model\'s record, or 1/255]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l mean -d 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l std -d 'Divides after the mean was subtracted' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l input-layout -d 'Order of the model\'s input axes' -r -f -a "nchw\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l frozen -d 'SavedModel: the weights as constants of the graph, not as variables'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l no-verify -d 'Keep the file without running it'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l demo -d 'Add a page that runs the model on a drawn digit or a picture: index.html'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l per-tensor -d 'One scale for all weights of a layer, not one a channel'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l no-equalization -d 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l no-bias-correction -d 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer\'s mean'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand quantize" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s m -l model -d '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s k -l top-k -d 'Classes to show' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s o -l out -d 'Save the raw outputs by name, as .npz (or .npy)' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l scale -d 'Multiplies the pixel (0 to 255) [default: the model\'s record, or 1/255]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l mean -d 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l std -d 'Divides after the mean was subtracted' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l input-layout -d 'Order of the model\'s input axes' -r -f -a "nchw\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand predict" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s m -l model -d '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s k -l top-k -d 'Classes to show' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s o -l out -d 'Save the raw outputs by name, as .npz (or .npy)' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l scale -d 'Multiplies the pixel (0 to 255) [default: the model\'s record, or 1/255]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l mean -d 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l std -d 'Divides after the mean was subtracted' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l input-layout -d 'Order of the model\'s input axes' -r -f -a "nchw\t''
nhwc\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand run" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l tolerance -d 'Exit with 3 if an output differs by more than this share of its largest value' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l data -d 'Run on these, as predict takes inputs, or on mnist [default: what suits the reference]' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l sort -d 'Order of the layers: as they run, or the largest difference first' -r -f -a "order\t''
worst\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l per-layer -d 'Compare what every node computes, too'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand compare" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -l runs -d 'Counted runs of each thread [default: about a second\'s worth]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -l batch -d 'Rows of one run' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -l profile -d 'Show the time of each node'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand bench" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l host -d 'Address to listen on; 0.0.0.0 is every one [default: 127.0.0.1]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l port -d 'Port of the gRPC API; 0 takes a free one' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l rest_api_port -d 'Port of the REST API; 0 takes a free one [default: 8501]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l model_name -d 'Name of the model in URLs [default: the folder\'s name; with --model_base_path MODEL_NAME, or \'default\']' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l model_base_path -d 'The same as MODEL_DIR' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l model_config_file -d 'Several models, with policies and labels: model_config_list { config { … } }; with it, --model_name and --model_base_path mean nothing' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l model_config_file_poll_wait_seconds -d 'How often the config file is looked at; 0 is never' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l file_system_poll_wait_seconds -d 'How often the folders are looked at; 0 is once' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l traffic -d 'Split a model\'s requests that name no version between labels or versions, for an A/B test: half=stable:90,canary:10; again for another model' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l shadow -d 'Run copies of those requests on this label or version too: the answers are compared and counted in the metrics, not returned' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l traffic_config_file -d 'The same as a file: traffic { model split { label weight } shadow { label percent } }; read again with the model config' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l traffic_sticky_header -d 'Requests with the same value of this header (gRPC: metadata) go to the same label' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l allow_version_labels_for_unavailable_models -d 'Labels may name versions that are not available yet' -r -f -a "true\t''
false\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l enable_batching -d 'Put requests that wait together into one run' -r -f -a "true\t''
false\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l batching_parameters_file -d 'max_batch_size, batch_timeout_micros, max_enqueued_batches, num_batch_threads, allowed_batch_sizes' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l monitoring_config_file -d 'prometheus_config { enable path }' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l ssl_config_file -d 'TLS on the gRPC port: server_key, server_cert, custom_ca (PEM text), client_verify' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l tls-cert -d 'TLS on both ports: the server\'s certificate and those above it, in PEM; SIGHUP reads it again' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l tls-key -d 'Its private key, in PEM' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l tls-client-ca -d 'Takes clients alone whose certificate one of these signed (mutual TLS)' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l rest_api_timeout_in_ms -d 'Time for a request over REST; over gRPC its client says it' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l rest_api_num_threads -d 'Threads that speak with clients [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l max-queue -d 'Requests of one version that may wait without --enable_batching; more get 429' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l max_queue_delay_ms -d 'Time that requests may wait for their run: one that would wait longer gets 429, and where that goes on the queue is held to about one run; 0 is any time [default: 1000, or eight runs where they take longer]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l max-body -d 'Size of a request, also unpacked; a larger one gets 413' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l max_request_memory -d 'Bytes that all requests may hold together, as bodies and as tensors; more get 429 [default: half of the memory here, and two of --max-body at least]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l max-connections -d 'Connections at the same time' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l grace -d 'Time to answer what runs when the server is to end' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l api_key_file -d 'Answer only who has a key of FILE' -r -F
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l cors_allow_origin -d 'Let pages of ORIGIN (https://example.org) ask from a browser; repeat for others, * is any' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l rest_api_enable_cors_support -d 'The same as --cors_allow_origin=*' -r -f -a "true\t''
false\t''"
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l health_check -d 'Ask the server that runs here whether it is ready, and end: 0 where it is, 1 where not'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l access-log -d 'Print a line of JSON on stderr for each request'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlctl -n "__fish_mlctl_using_subcommand serve" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -l threads -d 'Threads to use [default: all cores]' -r
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -l json -d 'Print one JSON document on stdout, nothing else'
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -s q -l quiet -d 'Print results and errors only'
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -s v -l verbose -d 'Tell more'
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c mlctl -n "__fish_mlctl_using_subcommand completions" -s V -l version -d 'Print version'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "train" -d 'Train a model and save it as a new version'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "save" -d 'Save a model as a further version directory'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "convert" -d 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "quantize" -d 'Quantize a model (convert with a scheme)'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "predict" -d 'Run a model on pictures, arrays or numbers'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "inspect" -d 'Show what is in a model: inputs, outputs, ops, sizes, metadata'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "compare" -d 'Run two models on the same inputs and show how far their outputs are apart'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "bench" -d 'Measure how fast a model runs'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "serve" -d 'Serve models over TensorFlow Serving\'s and KServe\'s REST and gRPC APIs'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "completions" -d 'Print the completions for a shell'
complete -c mlctl -n "__fish_mlctl_using_subcommand help; and not __fish_seen_subcommand_from train save convert quantize predict inspect compare bench serve completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
