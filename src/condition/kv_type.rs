//! Element types of the KV cache. Quantization keeps every position at lower precision; eviction keeps fewer positions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Axis, AxisArgs, Condition};
use crate::evict::words;
use crate::{Error, Result};

words! {
    /// Element type of keys or of values.
    KvType ("KV cache type") {
        /// 32-bit floats: for numerics checks.
        F32 = "f32",
        /// 16-bit floats, llama.cpp's default.
        #[default]
        F16 = "f16",
        /// 8-bit blocks: 34 bytes for 32 numbers.
        Q8_0 = "q8_0",
        /// 4-bit blocks: 18 bytes for 32 numbers.
        Q4_0 = "q4_0",
    }
}

impl KvType {
    /// Whether it is a quantized type, with numbers stored in blocks.
    pub fn is_quantized(self) -> bool {
        matches!(self, KvType::Q8_0 | KvType::Q4_0)
    }
}

/// Types of keys and of values: `f16`, or `q8_0/q4_0` if they differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KvTypes {
    /// Type of the keys.
    pub k: KvType,
    /// Type of the values. llama.cpp supports quantized values only with flash attention.
    pub v: KvType,
}

impl From<KvType> for KvTypes {
    fn from(both: KvType) -> Self {
        KvTypes { k: both, v: both }
    }
}

impl fmt::Display for KvTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.k == self.v { write!(f, "{}", self.k) } else { write!(f, "{}/{}", self.k, self.v) }
    }
}

impl FromStr for KvTypes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (k, v) = text.split_once('/').unwrap_or((text, text));
        Ok(KvTypes { k: k.parse()?, v: v.parse()? })
    }
}

impl From<KvTypes> for String {
    fn from(types: KvTypes) -> Self {
        types.to_string()
    }
}

impl TryFrom<String> for KvTypes {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// `--kv-type`.
#[derive(Debug, Clone, clap::Args)]
pub struct KvTypeArgs {
    /// Element types of the KV cache: f32, f16, q8_0 or q4_0, or one for keys and one for values, such as q8_0/q4_0.
    #[arg(long, help_heading = "Engine", value_name = "TYPE,..", value_delimiter = ',', default_value = "f16")]
    pub kv_type: Vec<KvTypes>,
}

impl Axis for KvTypes {
    type Args = KvTypeArgs;
    const NAME: &'static str = "kv_type";
    const QUESTION: &'static str = "types of the KV cache";
    const OF_EVICTION: bool = false;

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.kv_type.kv_type.clone())
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| format!("/kv={self}"))
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("{self} cache"))
    }
}
