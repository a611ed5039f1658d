//! The definition of the `f32` matrix product, element by element. The fast variants give the same
//! bits; tests hold them to it.

use super::gemm::{Activation, Epilogue, depth_blocks};
use super::matrix::{Matrix, MatrixMut};

/// `c = activation(alpha * a * b + beta * c + bias)`. Per element: one chain of fused multiply-adds
/// over a block of the depth, then `alpha` and the sum so far; the blocks in ascending order.
pub fn f32_gemm_scalar(a: Matrix, b: Matrix, mut c: MatrixMut, epilogue: &Epilogue) {
    for i in 0..c.rows() {
        for j in 0..c.columns() {
            let mut value = c.row_mut(i)[j];
            for (index, block) in depth_blocks(a.columns()).enumerate() {
                let mut sum = 0.0f32;
                for k in block {
                    sum = a.at(i, k).mul_add(b.at(k, j), sum);
                }
                value = match index > 0 || epilogue.accumulate {
                    true => epilogue.alpha.mul_add(sum, value),
                    false => epilogue.alpha * sum,
                };
            }
            if let Some(bias) = epilogue.bias {
                value += bias[j];
            }
            c.row_mut(i)[j] = activate(value, epilogue.activation);
        }
    }
}

fn activate(value: f32, activation: Activation) -> f32 {
    use super::exponential::{sigmoid, tanh};
    match activation {
        Activation::Identity => value,
        Activation::Relu if value < 0.0 => 0.0,
        Activation::Relu6 if value < 0.0 => 0.0,
        Activation::Relu6 if value > 6.0 => 6.0,
        Activation::Relu | Activation::Relu6 => value,
        Activation::Sigmoid => sigmoid(value),
        Activation::Tanh => tanh(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::{Copies, gemm_on, gemm_packed_on};
    use super::super::gemm_pack::PackedB;
    use super::super::instruction_set::InstructionSet;
    use super::*;
    use crate::kernels::test_values::{GUARD, assert_same_bits, values};

    #[derive(Clone, Copy, Debug)]
    struct Case {
        m: usize,
        n: usize,
        k: usize,
        a_transposed: bool,
        b_transposed: bool,
        /// Added to each row's (or column's) length.
        gap: usize,
        alpha: f32,
        accumulate: bool,
        bias: bool,
        activation: Activation,
    }

    const PLAIN: Case = Case {
        m: 1,
        n: 1,
        k: 1,
        a_transposed: false,
        b_transposed: false,
        gap: 0,
        alpha: 1.0,
        accumulate: false,
        bias: false,
        activation: Activation::Identity,
    };

    /// Exactly the values that `view` needs, so that a sanitizer sees every read beyond them.
    fn extent(rows: usize, columns: usize, gap: usize, transposed: bool) -> usize {
        match (rows * columns, transposed) {
            (0, _) => 0,
            (area, false) => area + (rows - 1) * gap,
            (area, true) => area + (columns - 1) * gap,
        }
    }

    const COPIES: [Copies; 3] = [
        Copies { left: false, right: false },
        Copies { left: false, right: true },
        Copies { left: true, right: false },
    ];

    fn view(data: &[f32], rows: usize, columns: usize, gap: usize, transposed: bool) -> Matrix<'_> {
        match transposed {
            false => Matrix::strided(data, rows, columns, columns + gap, 1),
            true => Matrix::strided(data, rows, columns, 1, rows + gap),
        }
    }

    fn check(case: Case) {
        let Case { m, n, k, gap, .. } = case;
        let a = values(extent(m, k, gap, case.a_transposed), 1);
        let b = values(extent(k, n, gap, case.b_transposed), 2);
        let before = values(m * (n + gap) + 2 * GUARD, 3);
        let bias = values(n, 4);
        let a = view(&a, m, k, gap, case.a_transposed);
        let b = view(&b, k, n, gap, case.b_transposed);
        let epilogue = Epilogue {
            alpha: case.alpha,
            accumulate: case.accumulate,
            bias: case.bias.then_some(&bias[..]),
            activation: case.activation,
        };
        let run = |product: &dyn Fn(MatrixMut)| {
            let mut c = before.clone();
            product(MatrixMut::strided(&mut c[GUARD..], m, n, n + gap));
            c
        };
        let expected = run(&|c| f32_gemm_scalar(a, b, c, &epilogue));
        let packed = PackedB::new(b);
        for set in InstructionSet::available() {
            let what = |how: &str| format!("{how}, {set:?}, {case:?}");
            for copies in COPIES {
                let got = run(&|c| gemm_on(set, copies, a, b, c, &epilogue));
                assert_same_bits(&got, &expected, &what(&format!("{copies:?}")));
            }
            let got = run(&|c| gemm_packed_on(set, a, &packed, 0..n, c, &epilogue));
            assert_same_bits(&got, &expected, &what("packed"));
        }
    }

    #[test]
    fn every_small_shape_gives_the_bits_of_the_definition() {
        let sizes = [0, 1, 2, 3, 5, 7, 8, 10, 13, 16, 17, 31, 33, 48, 49, 64, 100];
        for m in sizes {
            for n in sizes {
                for k in [0, 1, 3, 34] {
                    check(Case { m, n, k, ..PLAIN });
                }
            }
        }
    }

    #[test]
    fn strides_transposes_and_epilogues_give_the_bits_of_the_definition() {
        let activations = [
            Activation::Identity,
            Activation::Relu,
            Activation::Relu6,
            Activation::Sigmoid,
            Activation::Tanh,
        ];
        for (m, n, k) in [(1, 10, 33), (9, 130, 7), (17, 50, 20), (10, 257, 18)] {
            for bits in 0..32 {
                let is = |bit: u32| bits >> bit & 1 == 1;
                for (alpha, activation) in
                    [1.0, -0.3].into_iter().flat_map(|alpha| activations.map(|f| (alpha, f)))
                {
                    check(Case {
                        m,
                        n,
                        k,
                        a_transposed: is(0),
                        b_transposed: is(1),
                        gap: if is(2) { 3 } else { 0 },
                        accumulate: is(3),
                        bias: is(4),
                        alpha,
                        activation,
                    });
                }
            }
        }
    }

    #[test]
    fn blocked_shapes_give_the_bits_of_the_definition() {
        let bias_relu = Case { bias: true, activation: Activation::Relu, ..PLAIN };
        for (m, n, k) in
            [(9, 100, 1025), (1, 129, 1600), (3, 4100, 5), (130, 200, 33), (131, 48, 64)]
        {
            check(Case { m, n, k, ..bias_relu });
            check(Case { m, n, k, a_transposed: true, accumulate: true, alpha: 0.1, ..bias_relu });
            check(Case { m, n, k, b_transposed: true, gap: 1, ..PLAIN });
        }
    }

    #[test]
    fn a_row_s_bits_do_not_depend_on_the_batch_or_the_split() {
        let (m, n, k) = (67, 150, 300);
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
        let packed = PackedB::new(b);
        let epilogue = Epilogue::default();
        for set in InstructionSet::available() {
            let mut whole = vec![0.0; m * n];
            gemm_on(set, COPIES[0], a, b, MatrixMut::row_major(&mut whole, m, n), &epilogue);
            let mut rows = vec![0.0; m * n];
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                gemm_on(
                    set,
                    COPIES[0],
                    a.row_range(i..i + 1),
                    b,
                    MatrixMut::row_major(row, 1, n),
                    &epilogue,
                );
            }
            assert_same_bits(&rows, &whole, "row by row");
            let mut first = vec![0.0; n];
            for columns in packed.column_split(3) {
                let c = MatrixMut::row_major(&mut first[columns.clone()], 1, columns.len());
                gemm_packed_on(set, a.row_range(0..1), &packed, columns, c, &epilogue);
            }
            assert_same_bits(&first, &whole[..n], "columns apart");
        }
    }

    #[test]
    fn a_product_by_hand() {
        let a = Matrix::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2);
        let b = Matrix::row_major(&[5.0, 6.0, 7.0, 8.0], 2, 2);
        let epilogue = Epilogue {
            alpha: 2.0,
            bias: Some(&[1.0, -100.0]),
            activation: Activation::Relu,
            ..Epilogue::default()
        };
        let mut c = [f32::NAN; 4];
        super::super::gemm(a, b, MatrixMut::row_major(&mut c, 2, 2), &epilogue);
        assert_eq!(c, [39.0, 0.0, 87.0, 0.0]);
    }

    #[test]
    fn infinities_and_nan_pass_through() {
        let b = Matrix::row_major(&[1.0, -1.0, f32::NAN, 0.5], 1, 4);
        for activation in [Activation::Identity, Activation::Relu] {
            for set in InstructionSet::available() {
                let mut c = [0.0; 4];
                let epilogue = Epilogue { activation, ..Epilogue::default() };
                let a = Matrix::row_major(&[f32::INFINITY], 1, 1);
                gemm_on(set, COPIES[0], a, b, MatrixMut::row_major(&mut c, 1, 4), &epilogue);
                let low = if activation == Activation::Relu { 0.0 } else { f32::NEG_INFINITY };
                assert_eq!(c[..2], [f32::INFINITY, low]);
                assert!(c[2].is_nan() && c[3] == f32::INFINITY);
            }
        }
    }

    #[test]
    fn the_error_against_f64_is_that_of_the_summation() {
        let (m, n, k) = (3, 5, 4096);
        let (a, b) = (values(m * k, 5), values(k * n, 6));
        let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
        let mut c = vec![0.0; m * n];
        super::super::gemm(a, b, MatrixMut::row_major(&mut c, m, n), &Epilogue::default());
        for (at, got) in c.iter().enumerate() {
            let products = (0..k).map(|p| a.at(at / n, p) as f64 * b.at(p, at % n) as f64);
            let (sum, size) = products.fold((0.0, 0.0), |(s, z), p| (s + p, z + p.abs()));
            assert!((*got as f64 - sum).abs() < 3e-7 * size, "{got} {sum}");
        }
    }

    #[test]
    #[should_panic(expected = "a 2 x 3 times b 4 x 5 with a bias of 5 into c 2 x 5")]
    fn shapes_that_do_not_agree_panic() {
        let (a, b, mut c) = ([0.0; 6], [0.0; 20], [0.0; 10]);
        let (a, b) = (Matrix::row_major(&a, 2, 3), Matrix::row_major(&b, 4, 5));
        super::super::gemm(a, b, MatrixMut::row_major(&mut c, 2, 5), &Epilogue::default());
    }
}
