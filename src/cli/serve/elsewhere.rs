//! Flags of TensorFlow Serving's `tensorflow_model_server` that have no meaning here: its command lines are taken as they
//! are, and what is of no effect is told. clap does not know them, so that nobody is offered any.

use std::ffi::{OsStr, OsString};

/// By name: what to say beside that it has no effect.
const WITHOUT_EFFECT: [(&str, &str); 30] = [
    ("enable_grpc_healthcheck_service", "it is always on"),
    ("enable_model_warmup", "a version is always warmed up"),
    ("enable_per_model_batching_parameters", "--batching_parameters_file holds for every model"),
    ("enable_profiler", ""),
    ("enable_serialization_as_tensor_content", "tensors are always answered so"),
    (
        "enable_signature_method_name_check",
        "every model answers classify and regress whose outputs have the shape",
    ),
    ("flush_filesystem_caches", ""),
    ("grpc_channel_arguments", ""),
    ("grpc_max_threads", "--rest_api_num_threads are the threads of both ports"),
    ("load_retry_interval_micros", "a broken version is tried again after 2 to 64 seconds"),
    ("max_num_load_retries", "a broken version is tried again until its folder is gone"),
    ("mixed_precision", ""),
    ("num_load_threads", ""),
    ("num_request_iterations_for_warmup", ""),
    ("num_tflite_interpreters_per_pool", "--threads run each version"),
    ("num_tflite_pools", "--threads run each version"),
    ("num_unload_threads", ""),
    ("per_process_gpu_memory_fraction", ""),
    ("platform_config_file", ""),
    ("prefer_tflite_model", "of several models in a folder the one named model is served"),
    ("remove_unused_fields_from_bundle_metagraph", ""),
    ("saved_model_tags", "a SavedModel's graph is the one with the tag serve"),
    ("skip_initialize_tpu", ""),
    ("tensorflow_inter_op_parallelism", "--threads run each version"),
    ("tensorflow_intra_op_parallelism", "--threads run each version"),
    ("tensorflow_session_config_file", "--threads run each version"),
    ("tensorflow_session_parallelism", "--threads run each version"),
    ("thread_pool_factory_config_file", "--threads run each version"),
    ("xla_cpu_compilation_enabled", ""),
    ("xla_gpu_compilation_enabled", ""),
];

/// Those without which a server would not be what was asked for, with the way out.
const REFUSED: [(&str, &str); 2] = [
    ("grpc_socket_path", "Unix sockets are not served; clients reach --port"),
    ("use_alts_credentials", "there are no ALTS credentials here; give --tls-cert and --tls-key"),
];

/// What was given of TensorFlow Serving's other flags.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// A line for each that has no effect.
    pub told: Vec<String>,
    pub refused: Option<String>,
}

/// Takes those flags out of a command line of `serve`; every other one stays as it is.
pub fn take(arguments: Vec<OsString>) -> (Vec<OsString>, Elsewhere) {
    let mut found = Elsewhere::default();
    let Some(start) = arguments.iter().position(|argument| argument == "serve") else {
        return (arguments, found);
    };
    let (mut left, mut at) = (vec![], 0);
    for argument in arguments {
        at += 1;
        if at <= start + 1 || !found.takes(&argument) {
            left.push(argument);
        }
    }
    (left, found)
}

impl Elsewhere {
    fn takes(&mut self, argument: &OsStr) -> bool {
        let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
            return false;
        };
        let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
        let name = name.replace('-', "_");
        let find = |all: &[(&str, &'static str)]| {
            all.iter().find(|(own, _)| *own == name).map(|(_, why)| *why)
        };
        if let Some(why) = find(&WITHOUT_EFFECT) {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            self.told.push(format!("--{name} has no effect here{why}"));
            return true;
        }
        let Some(why) = find(&REFUSED) else { return false };
        if !matches!(value, "" | "false" | "0") {
            self.refused = Some(format!("--{name}: {why}"));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_out() {
        let check = |given: &[&str], left: &[&str], told: usize, refused: bool| {
            let (own, found) = take(given.iter().map(OsString::from).collect());
            assert_eq!(own, left.iter().map(OsString::from).collect::<Vec<_>>());
            assert_eq!((found.told.len(), found.refused.is_some()), (told, refused), "{given:?}");
        };
        check(
            &["mlctl", "-q", "serve", "--port=1", "--num_load_threads=4", "m", "--enable-profiler"],
            &["mlctl", "-q", "serve", "--port=1", "m"],
            2,
            false,
        );
        check(&["mlctl", "serve", "--use_alts_credentials"], &["mlctl", "serve"], 0, true);
        check(&["mlctl", "serve", "--use-alts-credentials=false"], &["mlctl", "serve"], 0, false);
        check(&["mlctl", "serve", "--grpc_socket_path="], &["mlctl", "serve"], 0, false);
        check(&["mlctl", "serve", "--grpc_socket_path=/x"], &["mlctl", "serve"], 0, true);
        let others = ["mlctl", "serve", "--num_load", "num_load_threads", "--", "-x"];
        check(&others, &others, 0, false);
        let other = ["mlctl", "train", "--num_load_threads=4"];
        check(&other, &other, 0, false);
    }
}
