//! Reads conditions from manifests of schema 1 (kvllama 0.1.0).

use serde_json::{Map, Value, json};

use super::Condition;
use crate::evict::{Budget, DEFAULT_SINKS};

/// Turns a condition of schema 1 into a current one. Also returns its name in that run's files. It differs if the sinks
/// were not the default: schema 1 wrote them as `/sinks=8` after the budget; now they are a parameter of the policy.
///
/// # Errors
/// If it is not a condition of schema 1.
pub fn upgrade(value: &Value) -> Result<(Condition, String), String> {
    let mut fields: Map<String, Value> = value.as_object().ok_or("a condition is an object")?.clone();
    let policy = fields.get("policy").and_then(Value::as_str).ok_or("a condition has a policy")?.to_owned();
    let budget = fields.get("budget").cloned().unwrap_or_default();
    let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let (ratio, window, rolling) = (&budget["ratio"], &budget["window"], fields.get("rolling").cloned());
    let has_sinks = policy == "streaming" || policy.starts_with("sinks+");
    let (text, sinks) = match rolling.filter(Value::is_object) {
        _ if policy == "none" => (json!("all"), None),
        Some(rolling) => (
            json!(format!("rolling={}/every={}", count(&rolling, "budget"), count(&rolling, "every"))),
            Some(count(window, "keep_first")),
        ),
        None if ratio.is_object() => (ratio["ratio"].clone(), Some(count(ratio, "sinks"))),
        None => (json!(format!("{}+{}", count(window, "keep_first"), count(window, "keep_last"))), None),
    };
    let other = sinks.filter(|&sinks| has_sinks && sinks != DEFAULT_SINKS as u64);
    fields.insert("budget".into(), text);
    if let Some(sinks) = other {
        fields.insert("policy".into(), json!(format!("{policy}:sinks={sinks}")));
    }
    let condition: Condition = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    let name = match other {
        None => condition.to_string(),
        Some(sinks) => {
            let Condition { budget, .. } = &condition;
            let today = format!("{}@{budget}", condition.policy);
            condition.to_string().replacen(&today, &format!("{policy}@{budget}/sinks={sinks}"), 1)
        }
    };
    debug_assert!(condition.is_full() == (condition.budget == Budget::All));
    Ok((condition, name))
}

/// Reads a condition of schema 1 from the cells of one of its rows, by column. If conditions were added to such a run
/// later, only the rows describe them, because the manifest was written at the first start alone.
///
/// # Errors
/// If the cells do not describe a condition.
pub fn upgrade_row(cell: impl Fn(&str) -> Option<String>) -> Result<(Condition, String), String> {
    let filled = |name: &str| cell(name).filter(|text| !text.is_empty());
    let number = |name: &str| filled(name).and_then(|text| text.parse::<u64>().ok());
    let keep_first = number("keep_first").unwrap_or(DEFAULT_SINKS as u64);
    let mut fields = Map::new();
    for axis in ["policy", "positions", "scope", "protect", "memory", "granularity", "layers", "aggregate"] {
        fields.extend(filled(axis).map(|text| (axis.to_owned(), json!(text))));
    }
    fields.insert("block".into(), json!(number("block").unwrap_or(1)));
    fields.insert("fair".into(), json!(filled("fair").as_deref() == Some("true"))); // `budget` today
    let window = json!({"window": {"keep_first": keep_first, "keep_last": number("keep_last")}});
    match (filled("ratio"), number("rolling")) {
        (_, Some(budget)) => {
            fields.insert("rolling".into(), json!({"budget": budget, "every": number("every")}));
            fields.insert("budget".into(), window);
        }
        (Some(ratio), None) => {
            fields.insert("budget".into(), json!({"ratio": {"ratio": ratio, "sinks": keep_first}}));
        }
        (None, None) => {
            fields.insert("budget".into(), window);
        }
    }
    upgrade(&Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_the_first_schema_are_read_with_the_names_their_rows_have() {
        let common = r#""positions":"compact","scope":"prompt","protect":"bos","memory":"kv","block":1"#;
        for (policy, budget, now, then) in [
            (
                "random",
                r#"{"ratio":{"ratio":"0.5","sinks":4}}"#,
                "random@0.5/compact/protect=bos",
                "random@0.5/compact/protect=bos",
            ),
            (
                "streaming",
                r#"{"ratio":{"ratio":"0.5","sinks":8}}"#,
                "streaming:sinks=8@0.5/compact/protect=bos",
                "streaming@0.5/sinks=8/compact/protect=bos",
            ),
            (
                "streaming",
                r#"{"window":{"keep_first":100,"keep_last":50}}"#,
                "streaming@100+50/compact/protect=bos",
                "streaming@100+50/compact/protect=bos",
            ),
        ] {
            let json = format!(r#"{{"policy":"{policy}","budget":{budget},{common}}}"#);
            let (condition, name) = upgrade(&serde_json::from_str(&json).unwrap()).unwrap();
            assert_eq!((condition.to_string().as_str(), name.as_str()), (now, then));
        }
        let rolling = r#"{"policy":"streaming","budget":{"window":{"keep_first":2,"keep_last":61}},"rolling":{"budget":64,"every":1}}"#;
        let (condition, name) = upgrade(&serde_json::from_str(rolling).unwrap()).unwrap();
        assert_eq!(condition.to_string(), "streaming:sinks=2@rolling=64/every=1");
        assert_eq!(name, "streaming@rolling=64/every=1/sinks=2");
    }
}
