//! temporary
use crate::Result;
use serde_json::{Map, Value};
/// v
pub struct Verdict {
    /// s
    pub strict: bool,
    /// l
    pub loose: bool,
}
/// c
pub fn check(_k: &str, _kw: &Map<String, Value>, r: &str) -> Result<Verdict> {
    Ok(Verdict { strict: r.len() > 5, loose: true })
}
/// v
pub fn validate(_k: &str, _kw: &Map<String, Value>) -> Result<()> {
    Ok(())
}
