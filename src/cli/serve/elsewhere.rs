//! Flags of TensorFlow Serving's `tensorflow_model_server` that change nothing here: its command lines are taken as they
//! are, and what is of no effect is told.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

/// By name: what to say beside that it has no effect.
const WITHOUT_EFFECT: [(&str, &str); 24] = [
    ("enable_model_warmup", "a version is always warmed up"),
    ("enable_per_model_batching_parameters", "--batching_parameters_file holds for every model"),
    ("enable_profiler", ""),
    (
        "enable_signature_method_name_check",
        "every model answers classify and regress whose outputs have the shape",
    ),
    ("flush_filesystem_caches", ""),
    ("grpc_channel_arguments", ""),
    ("grpc_max_threads", "--rest_api_num_threads are the threads of both ports"),
    ("load_retry_interval_micros", "a broken version is tried again after 2 to 64 seconds"),
    ("max_num_load_retries", "a broken version is tried again until its folder is gone"),
    ("num_load_threads", ""),
    ("num_request_iterations_for_warmup", ""),
    ("num_tflite_interpreters_per_pool", "--threads run each version"),
    ("num_tflite_pools", "--threads run each version"),
    ("num_unload_threads", ""),
    ("per_process_gpu_memory_fraction", ""),
    ("platform_config_file", ""),
    ("prefer_tflite_model", "a folder with several models has one that is named model"),
    ("remove_unused_fields_from_bundle_metagraph", ""),
    ("saved_model_tags", "a SavedModel's graph is the one with the tag serve"),
    ("tensorflow_inter_op_parallelism", "--threads run each version"),
    ("tensorflow_intra_op_parallelism", "--threads run each version"),
    ("tensorflow_session_config_file", "--threads run each version"),
    ("tensorflow_session_parallelism", "--threads run each version"),
    ("thread_pool_factory_config_file", "--threads run each version"),
];

/// Those that were given, with what to say of each.
#[derive(Debug, Default)]
pub struct Elsewhere(pub Vec<String>);

impl Args for Elsewhere {
    fn augment_args(command: Command) -> Command {
        let argument = |(name, _): &(&'static str, &str)| {
            let argument = Arg::new(*name).long(*name).alias(name.replace('_', "-"));
            // as TensorFlow's own flags are written
            argument.num_args(0..=1).require_equals(true).value_name("VALUE").hide(true)
        };
        command.args(WITHOUT_EFFECT.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Elsewhere::augment_args(command)
    }
}

impl FromArgMatches for Elsewhere {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Elsewhere, Error> {
        let given = WITHOUT_EFFECT.iter().filter(|(name, _)| matches.contains_id(name));
        let told = |(name, why): &(&str, &str)| match why.is_empty() {
            true => format!("--{name} has no effect here"),
            false => format!("--{name} has no effect here: {why}"),
        };
        Ok(Elsewhere(given.map(told).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Elsewhere::from_arg_matches(matches)?;
        Ok(())
    }
}
