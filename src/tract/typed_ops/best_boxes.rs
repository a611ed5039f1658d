//! Non-maximum suppression as TFLite's NON_MAX_SUPPRESSION_V4 does it.

use super::*;

/// Boxes `[n, 4]` (y, x of two corners), scores `[n]`, the most int32, the overlap and the score thresholds →
/// int32 indices `[most]`, best score first, the rest 0, and how many there are. The first of equal scores wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBoxes {
    pub most: TDim,
}

impl Op for BestBoxes {
    fn name(&self) -> StaticName {
        "BestBoxes".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for BestBoxes {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (boxes, scores) = (values(&inputs[0])?, values(&inputs[1])?);
        ensure!(boxes.len() == scores.len().saturating_mul(4), "{} numbers of boxes", boxes.len());
        let most = usize::try_from(number::<i64>(&inputs[2])?)?;
        ensure!(most <= MOST_INDICES, "{most} indices");
        let overlap = number::<f32>(&inputs[3])?;
        let threshold = number::<f32>(&inputs[4])?;
        let corners = boxes.as_chunks::<4>().0;
        let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > threshold).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut best: Vec<usize> = vec![];
        for candidate in order {
            if best.len() == most {
                break;
            }
            guard::check_loop()?;
            let apart = |&i: &usize| shared_area(&corners[i], &corners[candidate]) < overlap;
            if best.iter().all(apart) {
                best.push(candidate);
            }
        }
        let count = i32::try_from(best.len())?;
        let mut indices = vec![0i32; most];
        for (index, found) in indices.iter_mut().zip(best) {
            *index = i32::try_from(found)?;
        }
        Ok(tvec![tensor1(&indices).into_tvalue(), tensor0(count).into_tvalue()])
    }
}

const MOST_INDICES: usize = 1 << 24;

/// Intersection over union; 0 where a box has no area.
fn shared_area(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let sides = |c: &[f32; 4], axis: usize| (c[axis].min(c[axis + 2]), c[axis].max(c[axis + 2]));
    let [(ay0, ay1), (ax0, ax1)] = [sides(a, 0), sides(a, 1)];
    let [(by0, by1), (bx0, bx1)] = [sides(b, 0), sides(b, 1)];
    let (area_a, area_b) = ((ay1 - ay0) * (ax1 - ax0), (by1 - by0) * (bx1 - bx0));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let height = (ay1.min(by1) - ay0.max(by0)).max(0.0);
    let width = (ax1.min(bx1) - ax0.max(bx0)).max(0.0);
    let both = height * width;
    both / (area_a + area_b - both)
}

impl TypedOp for BestBoxes {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let scalar: [TDim; 0] = [];
        Ok(tvec!(i32::fact([self.most.clone()]), i32::fact(scalar)))
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(boxes: &[[f32; 4]], scores: &[f32], most: i32, overlap: f32) -> (Vec<i32>, i32) {
        let op = BestBoxes { most: TDim::from(most) };
        let flat: Vec<f32> = boxes.iter().flatten().copied().collect();
        let inputs = tvec![
            tensor1(&flat).into_shape(&[boxes.len(), 4]).unwrap().into_tvalue(),
            tensor1(scores).into_tvalue(),
            tensor0(most).into_tvalue(),
            tensor0(overlap).into_tvalue(),
            tensor0(0f32).into_tvalue(),
        ];
        let found = op.eval(&EvalContext::out_of_plan(), inputs).unwrap();
        let indices = found[0].try_as_plain_ram().unwrap().as_slice::<i32>().unwrap().to_vec();
        (indices, found[1].cast_to_scalar::<i32>().unwrap())
    }

    /// Half of the first box, the first flipped, one elsewhere, the first again: what LiteRT says of them.
    #[test]
    fn as_litert_selects() {
        let boxes = [
            [0.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, 0.5],
            [1.0, 1.0, 0.0, 0.0],
            [5.0, 5.0, 6.0, 6.0],
            [0.0, 0.0, 1.0, 1.0],
        ];
        let scores = [0.9, 0.8, 0.7, 0.6, 0.9];
        assert_eq!(best(&boxes, &scores, 5, 0.5), (vec![0, 3, 0, 0, 0], 2));
        assert_eq!(best(&boxes, &scores, 5, 0.50000006), (vec![0, 1, 3, 0, 0], 3));
        assert_eq!(best(&boxes, &scores, 5, 0.0), (vec![0, 0, 0, 0, 0], 1));
        assert_eq!(best(&boxes, &scores, 2, 0.5), (vec![0, 3], 2));
        assert_eq!(best(&boxes, &scores, 0, 0.5), (vec![], 0));
    }
}
