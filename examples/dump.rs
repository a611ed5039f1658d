fn main() -> ::anyhow::Result<()> {
    let r = mlctl::train::recipe::Recipe::default();
    let t = std::time::Instant::now();
    let data = mlctl::data::mnist::load()?;
    println!("load {:?}", t.elapsed());
    struct P; impl mlctl::progress::Progress for P { fn epoch(&self, r: &mlctl::progress::EpochReport) { println!("{r:?}"); } }
    let res = mlctl::train::train(&r, &data, 2, &P);
    match res { Ok(t) => println!("{:?}", t.test), Err(e) => println!("{e:?}") }
    println!("all {:?}", t.elapsed());
    Ok(())
}
