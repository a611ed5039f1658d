//! A model of one product, by hand: rows come back as they went, whatever the batches.

use super::*;
use crate::compare::example_inputs;
use crate::graph::{
    Activation, BinaryOp, Dim, ElementType, LiteOp, Model, Node, Subgraph, Tensor as LiteTensor,
};
use crate::model::{LoadedModel, locate, plan_lite};
use std::path::Path;
use std::time::Duration;

/// `y = x + x`, of rows of two values.
fn doubling(batch: Dim) -> Plan {
    let add = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
    plan(batch, add, [0, 0], vec![])
}

/// Of rows of two values: each and those before it added up.
fn running_sums() -> Plan {
    let axis = LiteTensor {
        data: Some(vec![0; 4].into()),
        ..LiteTensor::variable("axis", ElementType::I32, vec![])
    };
    plan(any(), LiteOp::CumSum { exclusive: false, reverse: false }, [0, 2], vec![axis])
}

/// One op from `x` to `y`.
fn plan(batch: Dim, op: LiteOp, inputs: [usize; 2], constants: Vec<LiteTensor>) -> Plan {
    let rows =
        |name| LiteTensor::variable(name, ElementType::F32, vec![batch.clone(), Dim::Known(2)]);
    let graph = Subgraph {
        name: "main".into(),
        tensors: [vec![rows("x"), rows("y")], constants].concat(),
        nodes: vec![Node { op, inputs: inputs.map(Some).into(), outputs: vec![1] }],
        inputs: vec![0],
        outputs: vec![1],
    };
    plan_lite(&Model { subgraphs: vec![graph], ..Model::default() }).unwrap()
}

fn queue(batch: Dim, options: &QueueOptions) -> Queue {
    let plan = doubling(batch);
    let rows = Rows::of(&plan);
    Queue::new("test", plan, rows, options).unwrap()
}

fn options(batching: Option<Batching>) -> QueueOptions {
    let memory = Budget::new(usize::MAX);
    QueueOptions { threads: 2, most_waiting: 4, longest_wait: None, batching, memory }
}

fn tensor(rows: usize, first: f32) -> Tensor {
    let values: Vec<f32> = (0..rows * 2).map(|i| first + i as f32).collect();
    Tensor::from_shape(&[rows, 2], &values).unwrap()
}

fn check(reply: Reply, rows: usize, first: f32) {
    let outputs = reply.unwrap();
    let expected: Vec<f32> = (0..rows * 2).map(|i| 2.0 * (first + i as f32)).collect();
    assert_eq!(outputs[0].shape(), [rows, 2]);
    assert_eq!(crate::runtime::f32_values(&outputs[0]).unwrap(), expected);
}

fn any() -> Dim {
    Dim::Symbol("N".into())
}

#[test]
fn every_request_gets_its_own_rows() {
    let batching = Batching {
        max_batch_size: 8,
        timeout: Duration::from_millis(2),
        max_enqueued_batches: 1000,
        threads: Some(2),
        allowed_batch_sizes: vec![3, 8],
    };
    let many = QueueOptions { most_waiting: 1000, ..options(None) };
    for (dim, options) in
        [(any(), many.clone()), (any(), options(Some(batching))), (Dim::Known(1), many)]
    {
        let queue = queue(dim, &options);
        let replies: Vec<_> = (0..200)
            .map(|i| {
                let (rows, first) = (1 + i % 20, i as f32);
                (queue.submit(vec![tensor(rows, first)], rows, far_away()).unwrap(), rows, first)
            })
            .collect();
        for (reply, rows, first) in replies {
            check(reply.blocking_recv().unwrap(), rows, first);
        }
        queue.end();
    }
}

#[test]
fn no_request_is_forgotten_by_threads_that_tell_each_other_late() {
    let batching = Batching {
        max_batch_size: 4,
        threads: Some(2),
        max_enqueued_batches: 1000,
        ..Batching::default()
    };
    for batching in [None, Some(batching)] {
        let many = QueueOptions { most_waiting: 1000, ..options(batching) };
        let queue = Arc::new(queue(any(), &many));
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            { runtime }.worker_threads(2).on_thread_park(tell).enable_time().build().unwrap();
        let carrier = runtime.spawn(carry());
        let clients: Vec<_> = (0..16)
            .map(|client| {
                let queue = queue.clone();
                runtime.spawn(async move {
                    for i in 0..300 {
                        let (rows, first) = (1 + (client + i) % 3, (client * 1000 + i) as f32);
                        let reply = queue.submit(vec![tensor(rows, first)], rows, far_away());
                        check(reply.unwrap().await.unwrap(), rows, first);
                    }
                })
            })
            .collect();
        let all = async {
            for client in clients {
                client.await.unwrap();
            }
        };
        let ended = async { tokio::time::timeout(Duration::from_secs(30), all).await };
        assert!(runtime.block_on(ended).is_ok(), "a request was forgotten");
        carrier.abort();
    }
}

#[test]
fn runs_are_alike_by_their_rows_and_inner_shapes() {
    let queue = queue(any(), &options(None));
    let work = |shapes: &[&[usize]]| {
        let batch = shapes.iter().map(|shape| Job {
            inputs: vec![Tensor::zero::<f32>(shape).unwrap()],
            rows: shape[0],
            came: Instant::now(),
            deadline: far_away(),
            reply: oneshot::channel().0,
            _held: Budget::new(0).nothing(),
            marks: None,
        });
        queue.shared.work_of(&batch.collect::<Vec<_>>())
    };
    assert_eq!(work(&[&[1, 7]]), work(&[&[2, 7], &[3, 7]]));
    assert_ne!(work(&[&[1, 7]]), work(&[&[1, 7000]]));
    assert_ne!(work(&[&[1, 7, 1]]), work(&[&[1, 1, 7]]));
    // many rows are like nothing
    assert_eq!(work(&[&[5, 7], &[4, 7]]), 0);
}

#[test]
fn requests_that_nobody_waits_for_do_not_count() {
    let plan = doubling(any());
    let rows = Rows::of(&plan);
    let queue = Queue::with_threads(0, "test", plan, rows, &options(None)).unwrap();
    for _ in 0..3 {
        drop(queue.submit(vec![tensor(1, 0.0)], 1, far_away()).unwrap());
    }
    assert_eq!(queue.metrics().depth.load(Relaxed), 3);
    let shared = queue.shared.clone();
    let thread = thread::spawn(move || shared.work());
    let start = Instant::now();
    while queue.metrics().depth.load(Relaxed) > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the depth stays");
        thread::yield_now();
    }
    queue.end();
    thread.join().unwrap();
}

#[test]
fn those_who_left_are_no_load_for_others() {
    let longest_wait = Some(Duration::from_millis(40).into());
    let options = QueueOptions { most_waiting: 1000, longest_wait, ..options(None) };
    let queue = Queue::with_threads(0, "test", doubling(any()), Rows::Any, &options).unwrap();
    let submit = |rows| queue.submit(vec![tensor(rows, 0.0)], rows, far_away());
    queue.shared.lock().pressure.ran(1, Duration::from_millis(10));
    let waits = submit(1).unwrap();
    let left = submit(20).unwrap();
    assert_eq!(submit(1).unwrap_err().code, Code::ResourceExhausted);
    drop(left);
    let taken = submit(1).unwrap();
    assert_eq!(queue.shared.lock().rows, 2);
    // nor does the time that they have waited count
    let old = Instant::now() - Duration::from_secs(1);
    drop(waits);
    queue.shared.lock().jobs.front_mut().unwrap().came = old;
    let also = submit(1).unwrap();
    assert_eq!(queue.shared.lock().rows, 2);
    assert!(!queue.shared.lock().pressure.is_held());
    drop((taken, also));
}

#[test]
fn inputs_take_their_part_of_the_memory_until_they_have_run() {
    let memory = Budget::new(4 * tensor(1, 0.0).len() * size_of::<f32>());
    let options = QueueOptions { memory: memory.clone(), ..options(None) };
    let queue = Queue::with_threads(0, "test", doubling(any()), Rows::Any, &options).unwrap();
    let submit = |rows| queue.submit(vec![tensor(rows, 0.0)], rows, far_away());
    let row = tensor(1, 0.0).len() * size_of::<f32>();
    let first = submit(1).unwrap();
    assert_eq!(memory.taken(), row);
    let failure = submit(8).unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert!(failure.message.contains("--max_request_memory"), "{}", failure.message);
    // those who have left give theirs back
    for _ in 0..2 {
        drop(submit(3).unwrap());
        assert_eq!(memory.taken(), row * 4);
    }
    let shared = queue.shared.clone();
    let thread = thread::spawn(move || shared.work());
    queue.end();
    thread.join().unwrap();
    check(first.blocking_recv().unwrap(), 1, 0.0);
    assert_eq!(memory.taken(), 0);
}

#[test]
fn batches_are_filled_or_go_in_time() {
    let batching = Batching {
        max_batch_size: 4,
        timeout: Duration::from_secs(3600),
        threads: Some(1),
        ..Batching::default()
    };
    let queue = queue(any(), &options(Some(batching.clone())));
    let submit = |first: f32| queue.submit(vec![tensor(1, first)], 1, far_away()).unwrap();
    let replies: Vec<_> = (0..4).map(|i| submit(i as f32)).collect();
    for (i, reply) in replies.into_iter().enumerate() {
        check(reply.blocking_recv().unwrap(), 1, i as f32);
    }
    let lonely = submit(9.0);
    queue.end();
    check(lonely.blocking_recv().unwrap(), 1, 9.0);
    let soon = Batching { timeout: Duration::from_millis(5), ..batching };
    let queue = self::queue(any(), &options(Some(soon)));
    let start = Instant::now();
    let reply = queue.submit(vec![tensor(1, 1.0)], 1, far_away()).unwrap();
    check(reply.blocking_recv().unwrap(), 1, 1.0);
    assert!(start.elapsed() >= Duration::from_millis(5));
    queue.end();
}

#[test]
fn full_queues_refuse_at_once_and_forget_those_whose_client_is_gone() {
    let batching = Batching { max_batch_size: 10, max_enqueued_batches: 2, ..Batching::default() };
    for (options, rows) in [(options(None), 1), (options(Some(batching)), 5)] {
        let plan = doubling(any());
        let queue = Queue::with_threads(0, "test", plan, Rows::Any, &options).unwrap();
        let submit = || queue.submit(vec![tensor(rows, 0.0)], rows, far_away());
        let mut waiting: Vec<_> = (0..4).map(|_| submit().unwrap()).collect();
        assert_eq!(submit().unwrap_err().code, Code::ResourceExhausted);
        waiting.remove(1);
        waiting.push(submit().unwrap());
        assert_eq!(submit().unwrap_err().code, Code::ResourceExhausted);
        assert_eq!(queue.metrics().depth.load(Relaxed), 4);
    }
}

#[test]
fn short_runs_are_gathered() {
    let queue_of = |plan: Plan, batching| {
        let rows = Rows::of(&plan);
        let options = QueueOptions { most_waiting: 100, ..options(batching) };
        Queue::with_threads(0, "test", plan, rows, &options).unwrap()
    };
    let sizes = |queue: &Queue, rows: &[usize]| {
        let submit = |&rows| queue.submit(vec![tensor(rows, 0.0)], rows, far_away()).unwrap();
        let waiting: Vec<_> = rows.iter().map(submit).collect();
        let mut sizes = vec![];
        while !queue.shared.lock().jobs.is_empty() {
            let batch = queue.shared.next_batch(None).unwrap();
            sizes.push(batch.iter().map(|job| job.rows).collect::<Vec<_>>());
        }
        drop(waiting);
        sizes
    };
    let ran = |queue: &Queue, micros| {
        queue.shared.lock().pressure.ran(1, Duration::from_micros(micros));
    };
    let queue = queue_of(doubling(any()), None);
    assert_eq!(sizes(&queue, &[1, 1]), [[1], [1]], "of these nothing is known");
    ran(&queue, 50);
    assert_eq!(sizes(&queue, &[1, 1, 1]), [[1, 1, 1]]);
    assert_eq!(sizes(&queue, &[1; 10]), [vec![1; 8], vec![1; 2]], "no more than eight rows");
    assert_eq!(sizes(&queue, &[2, 5, 2, 1]), [vec![2, 5], vec![2, 1]], "in their order");
    assert_eq!(sizes(&queue, &[100, 1, 9]), [[100], [1], [9]]);
    let slower = queue_of(doubling(any()), None);
    ran(&slower, 200);
    assert_eq!(sizes(&slower, &[1; 5]), [vec![1; 2], vec![1; 2], vec![1]], "400 µs, not 600");
    assert_eq!(sizes(&slower, &[1, 7]), [[1], [7]], "1.6 ms");
    queue.shared.idle.store(2, Relaxed);
    assert_eq!(sizes(&queue, &[1; 5]), [vec![1; 3], vec![1], vec![1]], "two threads are free");
    let slow = queue_of(doubling(any()), None);
    ran(&slow, 1000);
    assert_eq!(sizes(&slow, &[1, 1]), [[1], [1]]);
    for (plan, batching) in [
        (doubling(Dim::Known(1)), None),
        (doubling(any()), Some(Batching { max_batch_size: 1, ..Batching::default() })),
        (running_sums(), None),
    ] {
        let alone = queue_of(plan, batching);
        ran(&alone, 50);
        assert_eq!(sizes(&alone, &[1, 1]), [[1], [1]]);
    }
}

#[test]
fn gathered_requests_get_their_own_rows() {
    let queue = queue(any(), &QueueOptions { most_waiting: 1000, threads: 1, ..options(None) });
    queue.shared.lock().pressure.ran(1, Duration::from_micros(1));
    for round in 0..200 {
        let replies: Vec<_> = (0..20)
            .map(|i| {
                let (rows, first) = (1 + i % 3, (round * 20 + i) as f32);
                (rows, first, queue.submit(vec![tensor(rows, first)], rows, far_away()).unwrap())
            })
            .collect();
        for (rows, first, reply) in replies {
            check(reply.blocking_recv().unwrap(), rows, first);
        }
    }
    let (runs, rows) = queue.metrics().batches();
    assert!(runs < 4000 && rows == 7800, "{runs} runs of {rows} rows: no two ran together");
    queue.end();
}

#[test]
fn rows_that_may_be_gathered_keep_their_bits() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut apart = vec![];
    for folder in ["models", "fuzz", "keras"] {
        for entry in fixtures.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let is_model =
                [".onnx", ".tflite", ".keras", ".h5"].iter().any(|end| name.ends_with(end));
            // what was found by fuzzing may not end
            if !is_model || name.starts_with("finding_") {
                continue;
            }
            let loaded = locate(Some(&path)).and_then(|located| LoadedModel::load(&located));
            let Ok(plan) = loaded.and_then(|loaded| loaded.plan()) else { continue };
            if !plan.rows_are_independent() {
                continue;
            }
            let inputs = example_inputs(&plan, plan.inputs(), None).unwrap().runs.remove(0);
            let run = |inputs| plan.session().unwrap().run(inputs).unwrap();
            let together = run(inputs.clone());
            for row in 0..inputs[0].shape()[0] {
                let cut = |tensors: &[Tensor]| -> Vec<Tensor> {
                    tensors.iter().map(|t| t.slice(0, row, row + 1).unwrap()).collect()
                };
                assert_eq!(run(cut(&inputs)), cut(&together), "{name}, row {row}");
            }
            apart.push(name);
        }
    }
    for known in ["lenet_mnist.onnx", "dense.onnx", "conv_relu_pool.tflite"] {
        assert!(apart.iter().any(|name| name == known), "{known} is not among {apart:?}");
    }
}

#[test]
fn what_nobody_waits_for_is_not_run() {
    let queue = Queue::with_threads(0, "test", doubling(any()), Rows::Any, &options(None)).unwrap();
    let late = queue.submit(vec![tensor(1, 0.0)], 1, Instant::now()).unwrap();
    drop(queue.submit(vec![tensor(1, 0.0)], 1, far_away()).unwrap());
    let _good = queue.submit(vec![tensor(2, 0.0)], 2, far_away()).unwrap();
    thread::sleep(Duration::from_millis(2));
    let mut state = queue.shared.lock();
    assert_eq!(state.next().map(|job| job.rows), Some(2));
    assert!(state.next().is_none() && state.rows == 0);
    assert_eq!(late.blocking_recv().unwrap().unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn a_queue_that_takes_too_long_refuses_and_is_cut() {
    let options = QueueOptions {
        most_waiting: 1000,
        longest_wait: Some(Duration::from_millis(40).into()),
        ..options(None)
    };
    let queue = Queue::with_threads(0, "test", doubling(any()), Rows::Any, &options).unwrap();
    let submit = |rows| queue.submit(vec![tensor(rows, 0.0)], rows, far_away());
    // nothing is known of runs yet
    let first = submit(3).unwrap();
    queue.shared.lock().pressure.ran(1, Duration::from_millis(10));
    let mut waiting = vec![submit(1).unwrap(), submit(20).unwrap()];
    let refused = submit(1).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    let expected = "overloaded: the requests that wait need 240 ms, and a new one may wait for 40 ms; try again later";
    assert_eq!(refused.message, expected);
    assert_eq!(queue.metrics().depth.load(Relaxed), 3);
    let start = Instant::now();
    while queue.metrics().overloaded.load(Relaxed) == 0 {
        assert!(submit(1).is_err() && start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(2));
    }
    // the newest alone takes longer than it may
    assert_eq!((queue.metrics().depth.load(Relaxed), queue.shared.lock().rows), (0, 0));
    for reply in [first, waiting.remove(0), waiting.remove(0)] {
        let failure = reply.blocking_recv().unwrap().unwrap_err();
        assert_eq!(failure.code, Code::ResourceExhausted);
    }
    // and one that waits for nobody is taken
    drop(submit(100).unwrap());
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
