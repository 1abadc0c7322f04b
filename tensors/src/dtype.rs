//! Element types of both formats, as the formats spell them, with their block sizes.
//!
//! Sources: the `Dtype` enum of the `safetensors` crate 0.8, `ggml_type` and the block structs of
//! `ggml-common.h` (llama.cpp, ids 0 to 42).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares the types once: `Variant "NAME" (elements, bytes)`, with its id in GGUF.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal ($elements:literal, $bytes:literal)
        $(ggml $ggml:literal)?;)*) => {
        /// How the elements of a tensor are stored. Named as the file's format names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[non_exhaustive]
        pub enum Dtype { $($(#[$doc])* $variant,)* }

        impl Dtype {
            /// Every type, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that the format gives it, such as `BF16` or `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The smallest unit that fills whole bytes: (elements, bytes). `F4` is `(2, 1)`,
            /// `BF16` is `(1, 2)`, `Q4_K` is `(256, 144)`.
            pub fn block_size(self) -> (u64, u64) {
                match self { $(Self::$variant => ($elements, $bytes),)* }
            }

            /// Its id in GGUF, if that format has it.
            pub fn ggml_id(self) -> Option<u32> {
                match self {
                    $($(Self::$variant => Some($ggml),)?)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// The type with this id in GGUF.
            pub fn from_ggml(id: u32) -> Option<Self> {
                match id {
                    $($($ggml => Some(Self::$variant),)?)*
                    _ => None,
                }
            }
        }
    };
}

dtypes! {
    BOOL "BOOL" (1, 1);
    F4 "F4" (2, 1);
    F6_E2M3 "F6_E2M3" (4, 3);
    F6_E3M2 "F6_E3M2" (4, 3);
    U8 "U8" (1, 1);
    I8 "I8" (1, 1) ggml 24;
    F8_E5M2 "F8_E5M2" (1, 1);
    F8_E4M3 "F8_E4M3" (1, 1);
    F8_E8M0 "F8_E8M0" (1, 1);
    F8_E4M3FNUZ "F8_E4M3FNUZ" (1, 1);
    F8_E5M2FNUZ "F8_E5M2FNUZ" (1, 1);
    I16 "I16" (1, 2) ggml 25;
    U16 "U16" (1, 2);
    F16 "F16" (1, 2) ggml 1;
    BF16 "BF16" (1, 2) ggml 30;
    I32 "I32" (1, 4) ggml 26;
    U32 "U32" (1, 4);
    F32 "F32" (1, 4) ggml 0;
    C64 "C64" (1, 8);
    F64 "F64" (1, 8) ggml 28;
    I64 "I64" (1, 8) ggml 27;
    U64 "U64" (1, 8);

    // From here on GGUF's own.
    Q4_0 "Q4_0" (32, 18) ggml 2;
    Q4_1 "Q4_1" (32, 20) ggml 3;
    Q5_0 "Q5_0" (32, 22) ggml 6;
    Q5_1 "Q5_1" (32, 24) ggml 7;
    Q8_0 "Q8_0" (32, 34) ggml 8;
    /// 36 bytes since its two scales became half floats; gguf-py still says 40. Not seen in files.
    Q8_1 "Q8_1" (32, 36) ggml 9;
    Q2_K "Q2_K" (256, 84) ggml 10;
    Q3_K "Q3_K" (256, 110) ggml 11;
    Q4_K "Q4_K" (256, 144) ggml 12;
    Q5_K "Q5_K" (256, 176) ggml 13;
    Q6_K "Q6_K" (256, 210) ggml 14;
    Q8_K "Q8_K" (256, 292) ggml 15;
    IQ2_XXS "IQ2_XXS" (256, 66) ggml 16;
    IQ2_XS "IQ2_XS" (256, 74) ggml 17;
    IQ3_XXS "IQ3_XXS" (256, 98) ggml 18;
    IQ1_S "IQ1_S" (256, 50) ggml 19;
    IQ4_NL "IQ4_NL" (32, 18) ggml 20;
    IQ3_S "IQ3_S" (256, 110) ggml 21;
    IQ2_S "IQ2_S" (256, 82) ggml 22;
    IQ4_XS "IQ4_XS" (256, 136) ggml 23;
    IQ1_M "IQ1_M" (256, 56) ggml 29;
    TQ1_0 "TQ1_0" (256, 54) ggml 34;
    TQ2_0 "TQ2_0" (256, 66) ggml 35;
    MXFP4 "MXFP4" (32, 17) ggml 39;
    NVFP4 "NVFP4" (64, 36) ggml 40;
    Q1_0 "Q1_0" (128, 18) ggml 41;
    Q2_0 "Q2_0" (64, 18) ggml 42;
}

impl Dtype {
    /// The bytes that `elements` of it take, or nothing when they do not fill whole blocks or overflow.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let (per_block, bytes) = self.block_size();
        if !elements.is_multiple_of(per_block) {
            return None;
        }
        (elements / per_block).checked_mul(bytes)
    }

    /// Whether safetensors has it.
    pub fn is_safetensors(self) -> bool {
        self <= Self::U64
    }

    /// Whether several elements share one block with common scales, so that a part of it means nothing.
    pub fn is_quantized(self) -> bool {
        !self.is_safetensors()
    }

    /// The alignment that its elements like, in bytes (1 for packed types).
    pub fn alignment(self) -> u64 {
        match self.block_size() {
            (1, bytes) => bytes,
            _ => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no element type of either format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown element type {0:?}")]
pub struct DtypeParseError(pub String);

impl FromStr for Dtype {
    type Err = DtypeParseError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| DtypeParseError(name.chars().take(64).collect()))
    }
}

impl Serialize for Dtype {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_come_back() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
            if let Some(id) = dtype.ggml_id() {
                assert_eq!(Dtype::from_ggml(id), Some(dtype));
            }
            assert!(
                dtype.is_safetensors() || dtype.ggml_id().is_some(),
                "{dtype}"
            );
        }
    }

    #[test]
    fn removed_and_future_ggml_ids_are_unknown() {
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(Dtype::from_ggml(id), None, "{id}");
        }
    }

    #[test]
    fn sub_byte_types_need_whole_bytes() {
        assert_eq!(Dtype::F4.bytes_of(6), Some(3));
        assert_eq!(Dtype::F4.bytes_of(7), None);
        assert_eq!(Dtype::F6_E2M3.bytes_of(8), Some(6));
        assert_eq!(Dtype::F6_E3M2.bytes_of(6), None);
        assert_eq!(Dtype::Q4_K.bytes_of(512), Some(288));
        assert_eq!(Dtype::F64.bytes_of(u64::MAX), None);
    }
}
