//! Compares measured ratios with those of an earlier `bench --json`. Absolute times are never compared: they belong to
//! a machine.

use std::path::Path;

use serde::Deserialize;

use super::{Goal, Table};
use crate::{Error, Result};

/// What of an earlier measurement is compared.
#[derive(Deserialize)]
struct Earlier {
    sections: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    section: String,
    rows: Vec<Ratio>,
}

#[derive(Deserialize)]
struct Ratio {
    what: String,
    ratio: Option<f64>,
}

/// The ratios that are worse than in the file `earlier` by more than `tolerance` (0.1: a tenth), one sentence each, and
/// the number of ratios compared. A ratio with a goal is compared with the one of the same section and name.
///
/// # Errors
/// If the file cannot be read, or if nothing in it can be compared.
pub fn regressions(tables: &[Table], earlier: &Path, tolerance: f64) -> Result<(Vec<String>, usize)> {
    let text = std::fs::read_to_string(earlier).map_err(Error::io("cannot read", earlier))?;
    let earlier_tables: Earlier = serde_json::from_str(&text).map_err(|error| {
        Error::input(format!("{} is not what `kvllama bench --json` writes: {error}", earlier.display()))
    })?;
    let (mut worse, mut compared) = (Vec::new(), 0);
    for table in tables {
        for row in &table.rows {
            let before = earlier_tables.sections.iter().filter(|section| section.section == table.section);
            let before = before.flat_map(|section| &section.rows).find(|before| before.what == row.what);
            let (Some(now), Some(goal), Some(before)) = (row.ratio, row.goal, before.and_then(|row| row.ratio)) else {
                continue;
            };
            compared += 1;
            let is_worse = match goal {
                Goal::AtLeast(_) => now < before * (1.0 - tolerance),
                Goal::AtMost(_) => now > before * (1.0 + tolerance),
            };
            if is_worse {
                worse.push(format!("{}, {}: the ratio was {before:.3} and is now {now:.3}", table.section, row.what));
            }
        }
    }
    if compared == 0 {
        return Err(Error::input(format!(
            "{} has no ratio of these sections; give the same sections and --peers as when it was written",
            earlier.display()
        )));
    }
    Ok((worse, compared))
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::*;

    #[test]
    fn only_ratios_that_got_worse_are_named() {
        let row = |what: &str, ratio, goal| Row::new(what, 1.0, "tokens/s").beside("peer", 1.0, ratio).goal(goal);
        let table = |a, b| Table {
            section: "batch".into(),
            note: String::new(),
            rows: vec![row("decode", a, Goal::AtLeast(0.95)), row("cost", b, Goal::AtMost(1.35))],
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let json = serde_json::json!({ "sections": [table(1.0, 1.2)] });
        std::fs::write(file.path(), json.to_string()).unwrap();
        let check = |a, b| regressions(&[table(a, b)], file.path(), 0.05).unwrap();
        assert_eq!(check(0.96, 1.25), (vec![], 2));
        assert_eq!(check(1.5, 0.5), (vec![], 2), "better is no regression");
        assert_eq!(check(0.94, 1.2).0, ["batch, decode: the ratio was 1.000 and is now 0.940"]);
        assert_eq!(check(1.0, 1.27).0, ["batch, cost: the ratio was 1.200 and is now 1.270"]);
        let other = Table { section: "single".into(), ..table(1.0, 1.0) };
        assert!(regressions(&[other], file.path(), 0.05).is_err());
    }
}
