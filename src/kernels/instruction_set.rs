//! Which variant of the kernels runs: found once at run time, or set with `MLCTL_KERNELS`.
//! Every variant gives the same bits, so the choice is one of speed alone.

use std::sync::OnceLock;

/// A variant of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Plain Rust over arrays of fixed size; NEON and SSE by way of the compiler.
    Portable,
    /// AVX2 with FMA, F16C and BMI1.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl InstructionSet {
    /// The name that `MLCTL_KERNELS` takes and reports print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The variants this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                found.push(Self::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Self::Avx512);
            }
        }
        found
    }
}

/// The variant in use: the one `MLCTL_KERNELS` names if this machine has it, else the fastest.
pub fn instruction_set() -> InstructionSet {
    static CHOSEN: OnceLock<InstructionSet> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let asked = std::env::var("MLCTL_KERNELS").unwrap_or_default();
        choose(&asked, &InstructionSet::available())
    })
}

fn choose(asked: &str, available: &[InstructionSet]) -> InstructionSet {
    let fastest = available.last().copied().unwrap_or(InstructionSet::Portable);
    let named = available.iter().copied().find(|set| set.name() == asked);
    named.unwrap_or(fastest)
}

/// `pub fn NAME(ARGS) = BODY, NAME_ON;` compiles the `#[inline(always)]` function BODY once per
/// instruction set: NAME runs the variant in use, NAME_ON the one it is told.
macro_rules! multiversioned {
    ($($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        = $body:path, $on:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            $on($crate::kernels::instruction_set::instruction_set(), $($arg),*)
        }

        pub(crate) fn $on(
            set: $crate::kernels::instruction_set::InstructionSet,
            $($arg: $ty),*
        ) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                use $crate::kernels::instruction_set::InstructionSet;
                match set {
                    // SAFETY: `available` found these features on this machine.
                    InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    InstructionSet::Portable => {}
                }
            }
            let _ = set;
            $body($($arg),*)
        }
    )*};
}
pub(crate) use multiversioned;

#[cfg(test)]
mod tests {
    use super::*;
    use InstructionSet::*;

    #[test]
    fn the_override_picks_among_what_the_machine_has() {
        let check = |asked, available: &[_], expected| {
            assert_eq!(choose(asked, available), expected, "{asked} of {available:?}");
        };
        check("", &[Portable, Avx2, Avx512], Avx512);
        check("portable", &[Portable, Avx2, Avx512], Portable);
        check("avx2", &[Portable, Avx2, Avx512], Avx2);
        check("avx512", &[Portable, Avx2], Avx2);
        check("sse9", &[Portable], Portable);
    }

    #[test]
    fn the_variant_in_use_is_available() {
        assert!(InstructionSet::available().contains(&instruction_set()));
    }
}
