//! Seeded choices, and the numbers at which programs break.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

pub struct Draw(Pcg64);

const SIZES: [i64; 16] = [0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 64, 100, 128, 255, 256];
const EXTREMES: [i64; 12] = [
    -1,
    -2,
    -3,
    -4,
    -5,
    -128,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    i64::MAX,
    i64::MIN,
    65_535,
];
const FLOATS: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.0,
    -2.5,
    6.0,
    1e-7,
    1e-30,
    1e30,
    f32::MAX,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
];

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(Pcg64::seed_from_u64(seed))
    }

    /// 0 up to `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A place in a list, or `None` if it is empty.
    pub fn place<T>(&mut self, of: &[T]) -> Option<usize> {
        (!of.is_empty()).then(|| self.below(of.len()))
    }

    /// A number near `old`, a likely size, an extreme, or any.
    pub fn integer(&mut self, old: i64) -> i64 {
        match self.below(8) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old.wrapping_neg(),
            3 => old.wrapping_mul(2),
            4 => self.pick(&EXTREMES),
            5 if self.one_in(4) => self.0.next_u64() as i64 >> self.below(64),
            _ => self.pick(&SIZES),
        }
    }

    pub fn float(&mut self, old: f32) -> f32 {
        match self.below(4) {
            0 => old * 2.0,
            1 => old + 1.0,
            2 => -old,
            _ => self.pick(&FLOATS),
        }
    }

    /// A list with one of its numbers changed, added, removed or exchanged.
    pub fn change_list(&mut self, list: &mut Vec<i64>) {
        let size = self.pick(&SIZES);
        match (self.below(6), self.place(list)) {
            (0, _) | (_, None) => list.push(size),
            (1, Some(at)) => drop(list.remove(at)),
            (2, Some(at)) => {
                let other = self.below(list.len());
                list.swap(at, other);
            }
            (_, Some(at)) => list[at] = self.integer(list[at]),
        }
    }
}
