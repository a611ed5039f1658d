//! A function of one quantized value, as a table of all its results.

use super::*;

/// Integers of 8 or 16 bits → what the table has for each, the lowest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    name: &'static str,
    from: DatumType,
    to: DatumType,
    results: Vec<i32>,
    bytes: Vec<u8>,
}

impl Table {
    /// # Errors
    /// The integers are not of 8 or 16 bits.
    pub fn new(
        name: &'static str,
        from: DatumType,
        to: DatumType,
        function: impl Fn(i32) -> i32,
    ) -> TractResult<Table> {
        ensure!(from.size_of() <= 2 && from.is_integer(), "a table of {from:?}");
        let ([low, high], [least, most]) = (bounds(from), bounds(to));
        let results: Vec<i32> = (low..=high).map(|i| function(i).clamp(least, most)).collect();
        // by the bit pattern of an 8-bit value
        let bytes = match (from.size_of(), to.size_of()) {
            (1, 1) => (0..=255u8)
                .map(|bits| {
                    let place = if from == DatumType::I8 { bits ^ 0x80 } else { bits };
                    results[usize::from(place)] as u8
                })
                .collect(),
            _ => vec![],
        };
        Ok(Table { name, from, to, results, bytes })
    }
}

impl Kernel for Table {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == self.from, "a table of {:?}", self.from);
        Ok(like_first(self.to, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let shape = inputs[0].shape();
        if let Ok(table) = <&[u8; 256]>::try_from(self.bytes.as_slice()) {
            let mut tensor = Tensor::zero_dt(self.to, shape)?;
            let pairs = tensor.as_bytes_mut().iter_mut().zip(inputs[0].as_bytes());
            pairs.for_each(|(out, &bits)| *out = table[usize::from(bits)]);
            return Ok(tensor);
        }
        let [low, _] = bounds(self.from);
        with_integer!(self.from, X => {
            let integers = slice::<X>(&inputs[0])?;
            with_integer!(self.to, Y => made::<Y>(shape, |out| {
                for (out, &x) in out.iter_mut().zip(integers) {
                    let x: i32 = x.into();
                    let place = x.wrapping_sub(low) as usize;
                    *out = Y::narrow(self.results[place]);
                }
                Ok(())
            }))
        })
    }
}
