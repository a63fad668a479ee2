//! From a level of the instruction set to code compiled for it.

use crate::Isa;
use crate::cpu::{Avx2, Avx512, Units};

/// Bytes ahead that count as near.
pub(crate) const NEAR: usize = 4096;

/// A level together with the proof that this CPU offers it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) enum Level {
    /// Plain Rust.
    Portable,
    /// 256-bit vectors.
    Avx2(Avx2),
    /// 512-bit vectors.
    Avx512(Avx512),
}

impl Level {
    /// The best level for vectors of f32 that `isa` includes and this CPU offers.
    pub(crate) fn of(isa: Isa) -> Level {
        let wide = (isa >= Isa::Avx512).then(Avx512::detect).flatten().map(Level::Avx512);
        let narrow = || (isa >= Isa::Avx2).then(Avx2::detect).flatten().map(Level::Avx2);
        wide.or_else(narrow).unwrap_or(Level::Portable)
    }

    /// Whether few rows, which wait for memory, ask for it [`NEAR`] ahead into the first-level cache. A core of the Zen 5
    /// kind reads up to a quarter more so; one of the Zen 4 kind less.
    pub(crate) fn asks_near(self) -> bool {
        matches!(self, Level::Avx512(token) if token.units() == Units::Whole)
    }
}

/// Compiles functions of the module `generic`, written over `Lanes`, once per level, and gives each a safe
/// entry of the same name that takes the [`Level`] first.
///
/// # Safety
/// Beyond the instruction set, which the level proves, the generic function must ask nothing of its caller.
macro_rules! levels {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)?;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: this function has the features of the vector type.
                    unsafe { generic::$name::<crate::isa::lanes::F32x8>($($arg),*) }
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: this function has the features of the vector type.
                    unsafe { generic::$name::<crate::isa::lanes::F32x16>($($arg),*) }
                }
            )*
        }

        $(
            $(#[$doc])*
            #[allow(clippy::too_many_arguments)]
            pub(crate) fn $name(level: $crate::isa::level::Level, $($arg: $type),*) $(-> $ret)? {
                use $crate::isa::level::Level;
                match level {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the token proves that the CPU has the features.
                    Level::Avx512(_) => unsafe { avx512::$name($($arg),*) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the token proves that the CPU has the features.
                    Level::Avx2(_) => unsafe { avx2::$name($($arg),*) },
                    // SAFETY: plain arrays need no feature.
                    _ => unsafe { generic::$name::<crate::isa::lanes::P32x8>($($arg),*) },
                }
            }
        )*
    };
}
pub(super) use levels;
