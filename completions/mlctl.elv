
use builtin;
use str;

set edit:completion:arg-completer[mlctl] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'mlctl'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'mlctl'= {
            cand --threads 'Threads to use [default: all cores]'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand train 'Train a model and save it as a new version'
            cand save 'Save a model as a further version directory'
            cand convert 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original'
            cand quantize 'Quantize a model (convert with a scheme)'
            cand predict 'Run a model on pictures, arrays or numbers'
            cand run 'Run a model on pictures, arrays or numbers'
            cand inspect 'Show what is in a model: inputs, outputs, ops, sizes, metadata'
            cand compare 'Run two models on the same inputs and show how far their outputs are apart'
            cand bench 'Measure how fast a model runs'
            cand serve 'Serve models over TensorFlow Serving''s and KServe''s REST and gRPC APIs'
            cand completions 'Print the completions for a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'mlctl;train'= {
            cand --data 'Folder with the four IDX files of MNIST''s layout, plain or .gz; or the word mnist'
            cand --epochs 'Passes over the training samples [default: 3]'
            cand --batch-size 'Samples of one step [default: 32]'
            cand --optimizer 'sgd, with --momentum and --nesterov [default: sgd]'
            cand --learning-rate 'Step size [default: 0.01]'
            cand --momentum 'Share of the last step that is kept [default: 0]'
            cand --seed 'Seed of weights and shuffling [default: 42]'
            cand --validation 'Share below 1, or number, of the training samples kept for validation [default: 5000]'
            cand -o 'Model directory [default: the recipe''s name, here]'
            cand --out 'Model directory [default: the recipe''s name, here]'
            cand --threads 'Threads to use [default: all cores]'
            cand --nesterov 'Look ahead by the momentum (Nesterov)'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;save'= {
            cand --to 'Model directory that gets the version'
            cand --version 'Version number [default: the next free one]'
            cand --labels 'Class names, one a line'
            cand --threads 'Threads to use [default: all cores]'
            cand --no-saved-model 'Leave out the SavedModel, which takes as much room again'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;convert'= {
            cand --quantize 'Quantize: f16, w8, w4 (weights), dynamic (int8 weights, int8 products), int8, int16x8 (weights and activations, calibrated on samples); for tfjs f16, uint8, uint16, also for the weights that a glob names, the first that is for a weight deciding: --quantize f16=*bias --quantize uint8'
            cand --to 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads'
            cand -o 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]'
            cand --out 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]'
            cand --labels 'Class names, one a line, for the file''s metadata [default: the model''s]'
            cand --set 'Fix a dimension that the model leaves open, by its name (may be repeated)'
            cand --tolerance 'Largest allowed difference, relative to the output''s largest value [default: 1e-5, f16: 2e-2]'
            cand --layout 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures'
            cand --data 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]'
            cand --weight-shard-size 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]'
            cand --metadata 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)'
            cand --calibrate 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]'
            cand --samples 'Use at most so many samples, spread evenly over the data [default: 500]'
            cand --ranges-by 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]'
            cand --ranges 'Ranges that --save-ranges wrote, in place of samples'
            cand --save-ranges 'Write the ranges, by tensor, as JSON'
            cand --io 'Type of the file''s inputs and outputs [default: float32]'
            cand --keep-float 'Layers whose name this matches stay float32 (may be repeated)'
            cand --max-drop 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error''s share of the outputs'' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error''s share of the outputs'' power in the worst run [default there: 0.05%; w4: 100%]'
            cand --block-size 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone'
            cand --plot 'Draw what each layer loses, and the values of the worst beside where they are clipped'
            cand --scale 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]'
            cand --mean 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406'
            cand --std 'Divides after the mean was subtracted'
            cand --input-layout 'Order of the model''s input axes'
            cand --threads 'Threads to use [default: all cores]'
            cand --frozen 'SavedModel: the weights as constants of the graph, not as variables'
            cand --no-verify 'Keep the file without running it'
            cand --demo 'Add a page that runs the model on a drawn digit or a picture: index.html'
            cand --per-tensor 'One scale for all weights of a layer, not one a channel'
            cand --no-equalization 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other'
            cand --no-bias-correction 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer''s mean'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;quantize'= {
            cand --scheme 'f16, w8, w4: float16, int8, int4 weights; dynamic: int8 weights, int8 products; int8, int16x8: weights and activations, calibrated on samples; for tfjs f16, uint8, uint16, also for the weights that a glob names'
            cand --to 'What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads'
            cand -o 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]'
            cand --out 'File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or MODEL_saved_model, here]'
            cand --labels 'Class names, one a line, for the file''s metadata [default: the model''s]'
            cand --set 'Fix a dimension that the model leaves open, by its name (may be repeated)'
            cand --tolerance 'Largest allowed difference, relative to the output''s largest value [default: 1e-5, f16: 2e-2]'
            cand --layout 'Order of the axes of inputs and outputs: as in the source, or channels last for pictures'
            cand --data 'Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]'
            cand --weight-shard-size 'Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]'
            cand --metadata 'A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be repeated)'
            cand --calibrate 'Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or mnist [default: mnist for a model of digits]'
            cand --samples 'Use at most so many samples, spread evenly over the data [default: 500]'
            cand --ranges-by 'How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]'
            cand --ranges 'Ranges that --save-ranges wrote, in place of samples'
            cand --save-ranges 'Write the ranges, by tensor, as JSON'
            cand --io 'Type of the file''s inputs and outputs [default: float32]'
            cand --keep-float 'Layers whose name this matches stay float32 (may be repeated)'
            cand --max-drop 'Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels, otherwise the error''s share of the outputs'' power. With dynamic, w8 and w4: keep the fewest weights in float16, by the error''s share of the outputs'' power in the worst run [default there: 0.05%; w4: 100%]'
            cand --block-size 'With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone'
            cand --plot 'Draw what each layer loses, and the values of the worst beside where they are clipped'
            cand --scale 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]'
            cand --mean 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406'
            cand --std 'Divides after the mean was subtracted'
            cand --input-layout 'Order of the model''s input axes'
            cand --threads 'Threads to use [default: all cores]'
            cand --frozen 'SavedModel: the weights as constants of the graph, not as variables'
            cand --no-verify 'Keep the file without running it'
            cand --demo 'Add a page that runs the model on a drawn digit or a picture: index.html'
            cand --per-tensor 'One scale for all weights of a layer, not one a channel'
            cand --no-equalization 'Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other'
            cand --no-bias-correction 'Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer''s mean'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;predict'= {
            cand -m '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]'
            cand --model '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]'
            cand -k 'Classes to show'
            cand --top-k 'Classes to show'
            cand -o 'Save the raw outputs by name, as .npz (or .npy)'
            cand --out 'Save the raw outputs by name, as .npz (or .npy)'
            cand --scale 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]'
            cand --mean 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406'
            cand --std 'Divides after the mean was subtracted'
            cand --input-layout 'Order of the model''s input axes'
            cand --threads 'Threads to use [default: all cores]'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;run'= {
            cand -m '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]'
            cand --model '.onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]'
            cand -k 'Classes to show'
            cand --top-k 'Classes to show'
            cand -o 'Save the raw outputs by name, as .npz (or .npy)'
            cand --out 'Save the raw outputs by name, as .npz (or .npy)'
            cand --scale 'Multiplies the pixel (0 to 255) [default: the model''s record, or 1/255]'
            cand --mean 'Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406'
            cand --std 'Divides after the mean was subtracted'
            cand --input-layout 'Order of the model''s input axes'
            cand --threads 'Threads to use [default: all cores]'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;inspect'= {
            cand --threads 'Threads to use [default: all cores]'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;compare'= {
            cand --tolerance 'Exit with 3 if an output differs by more than this share of its largest value'
            cand --data 'Run on these, as predict takes inputs, or on mnist [default: what suits the reference]'
            cand --sort 'Order of the layers: as they run, or the largest difference first'
            cand --threads 'Threads to use [default: all cores]'
            cand --per-layer 'Compare what every node computes, too'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;bench'= {
            cand --runs 'Counted runs of each thread [default: about a second''s worth]'
            cand --batch 'Rows of one run'
            cand --threads 'Threads to use [default: all cores]'
            cand --profile 'Show the time of each node'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;serve'= {
            cand --host 'Address to listen on; 0.0.0.0 is every one [default: 127.0.0.1]'
            cand --port 'Port of the gRPC API; 0 takes a free one'
            cand --rest_api_port 'Port of the REST API; 0 takes a free one [default: 8501]'
            cand --model_name 'Name of the model in URLs [default: the folder''s name, or ''default'' with --model_base_path]'
            cand --model_base_path 'The same as MODEL_DIR'
            cand --model_config_file 'Several models, with policies and labels: model_config_list { config { … } }'
            cand --model_config_file_poll_wait_seconds 'How often the config file is looked at; 0 is never'
            cand --file_system_poll_wait_seconds 'How often the folders are looked at; 0 is once'
            cand --traffic 'Split a model''s requests that name no version between labels or versions, for an A/B test: half=stable:90,canary:10; again for another model'
            cand --shadow 'Run copies of those requests on this label or version too: the answers are compared and counted in the metrics, not returned'
            cand --traffic_config_file 'The same as a file: traffic { model split { label weight } shadow { label percent } }; read again with the model config'
            cand --traffic_sticky_header 'Requests with the same value of this header (gRPC: metadata) go to the same label'
            cand --allow_version_labels_for_unavailable_models 'Labels may name versions that are not available yet'
            cand --enable_batching 'Put requests that wait together into one run'
            cand --batching_parameters_file 'max_batch_size, batch_timeout_micros, max_enqueued_batches, num_batch_threads, allowed_batch_sizes'
            cand --monitoring_config_file 'prometheus_config { enable path }'
            cand --rest_api_timeout_in_ms 'Time for a request'
            cand --rest_api_num_threads 'Threads that speak with clients [default: all cores]'
            cand --max-queue 'Requests of one version that may wait without --enable_batching; more get 429'
            cand --max_queue_delay_ms 'Time that requests may wait for their run: one that would wait longer gets 429, and where that goes on the queue is held to two runs; 0 is any time'
            cand --max-body 'Size of a request, also unpacked; a larger one gets 413'
            cand --max-connections 'Connections at the same time'
            cand --grace 'Time to answer what runs when the server is to end'
            cand --api_key_file 'Answer only who has a key of FILE'
            cand --cors_allow_origin 'Let pages of ORIGIN (https://example.org) ask from a browser; repeat for others, * is any'
            cand --threads 'Threads to use [default: all cores]'
            cand --health_check 'Ask the server that runs here whether it is ready, and end: 0 where it is, 1 where not'
            cand --access-log 'Print a line of JSON on stderr for each request'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;completions'= {
            cand --threads 'Threads to use [default: all cores]'
            cand --json 'Print one JSON document on stdout, nothing else'
            cand -q 'Print results and errors only'
            cand --quiet 'Print results and errors only'
            cand -v 'Tell more'
            cand --verbose 'Tell more'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'mlctl;help'= {
            cand train 'Train a model and save it as a new version'
            cand save 'Save a model as a further version directory'
            cand convert 'Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original'
            cand quantize 'Quantize a model (convert with a scheme)'
            cand predict 'Run a model on pictures, arrays or numbers'
            cand inspect 'Show what is in a model: inputs, outputs, ops, sizes, metadata'
            cand compare 'Run two models on the same inputs and show how far their outputs are apart'
            cand bench 'Measure how fast a model runs'
            cand serve 'Serve models over TensorFlow Serving''s and KServe''s REST and gRPC APIs'
            cand completions 'Print the completions for a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'mlctl;help;train'= {
        }
        &'mlctl;help;save'= {
        }
        &'mlctl;help;convert'= {
        }
        &'mlctl;help;quantize'= {
        }
        &'mlctl;help;predict'= {
        }
        &'mlctl;help;inspect'= {
        }
        &'mlctl;help;compare'= {
        }
        &'mlctl;help;bench'= {
        }
        &'mlctl;help;serve'= {
        }
        &'mlctl;help;completions'= {
        }
        &'mlctl;help;help'= {
        }
    ]
    $completions[$command]
}
