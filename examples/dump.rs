use mlctl::train::*;
fn main() -> ::anyhow::Result<()> {
    let r = mlctl::train::recipe::Recipe::default();
    let (proto, _) = mlctl::train::initial_model::build(&r, &[28, 28, 1])?;
    let m = TrainableModel::new(proto, r.training.loss)?;
    for (label, rows, f) in [("step", 32, Some(-0.01)), ("grad", 32, None), ("eval", 500, None)] {
        let mut s = if label == "eval" { m.evaluation(rows)? } else { m.gradients(rows, f)? };
        let x = mlctl::runtime::f32_tensor(&[rows, 28, 28, 1], &vec![0.5; rows * 784])?;
        let l = mlctl::runtime::Tensor::zero::<i32>(&[rows])?;
        let mut tot = std::collections::BTreeMap::<String, (String, f64)>::new();
        let xa = std::sync::Arc::new(x.clone());
        let la = std::sync::Arc::new(l.clone());
        let mut p =
            m.parameters.iter().map(|p| std::sync::Arc::new((**p).clone())).collect::<Vec<_>>();
        let mut best = 1e9f64;
        for _ in 0..300 {
            let t = std::time::Instant::now();
            let feed = TrainableModel::feed(&xa, std::mem::take(&mut p), &la);
            let keep = if f.is_some() { vec![] } else { feed[1..feed.len() - 1].to_vec() };
            let mut o = s.run_shared(feed)?;
            p = if f.is_some() { o.split_off(2) } else { keep };
            best = best.min(t.elapsed().as_secs_f64());
        }
        println!("{label}: best {:.1} us", best * 1e6);
        for _ in 0..200 {
            let mut inp = vec![x.clone()];
            inp.extend(m.parameters.iter().map(|p| (**p).clone()));
            inp.push(l.clone());
            for n in s.profile(inp)? {
                let e = tot.entry(n.name).or_insert((n.op, 1e9));
                e.1 = e.1.min(n.time.as_secs_f64());
            }
        }
        for (n, (o, t)) in &tot {
            println!("  {n:30} {o:20} {:.2}", t * 1e6);
        }
        println!("  sum {:.1}", tot.values().map(|v| v.1).sum::<f64>() * 1e6);
    }
    let data = mlctl::data::mnist::test()?;
    let idx: Vec<u32> = (0..32).map(|i| i * 300).collect();
    let mut out = vec![0f32; 784];
    let mut best = 1e9f64;
    for _ in 0..1000 {
        let t = std::time::Instant::now();
        for &i in &idx {
            mlctl::kernels::f32_from_u8_divided(data.image(i as usize), 255.0, &mut out);
            std::hint::black_box(&out);
        }
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("fill {:.1}", best * 1e6);
    Ok(())
}
