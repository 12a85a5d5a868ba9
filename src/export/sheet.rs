//! A run as two tables with typed columns: `trials` and `instructions`.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::conditions::ordered;
use super::kinds::kinds;
use crate::condition::Condition;
use crate::data::Instruction;
use crate::exp::{InstructionRow, TrialRow};
use crate::report::Run;
use crate::score::{self, Checker};

/// What the cells of a column hold. Any cell may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its cells hold.
    pub kind: Kind,
}

/// A table: columns, and rows with a cell per column. An empty cell is [`Value::Null`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
}

/// The columns of the axes that are not text.
const OF_AXES: [(&str, Kind); 8] = [
    ("ratio", Kind::Number),
    ("keep_first", Kind::Integer),
    ("keep_last", Kind::Integer),
    ("block", Kind::Integer),
    ("rolling", Kind::Integer),
    ("every", Kind::Integer),
    ("fair", Kind::Boolean),
    ("freed", Kind::Boolean),
];

/// One row per trial, failed ones included: the columns of `trials.csv`.
pub fn trials(run: &Run) -> Sheet {
    let columns = of_row::<TrialRow>();
    let conditions = conditions(run);
    let rows = ordered(run).into_iter().map(|trial| {
        let row = TrialRow { axes: conditions[trial.row.condition.as_str()].cells(), ..trial.row.clone() };
        cells(&columns, object(&row))
    });
    Sheet { rows: rows.collect(), columns: columns.clone() }
}

/// One row per trial and instruction: the columns of `instructions.csv`, the axes of the condition after its name, and
/// at the end the instruction's text, its kwargs as JSON, and the reason of the rule's verdict.
pub fn instructions(run: &Run) -> Sheet {
    let mut columns = of_row::<InstructionRow>();
    let after = 1 + columns.iter().position(|column| column.name == "condition").expect("a row has a condition");
    columns.splice(after..after, of_axes());
    columns.extend(["text", "kwargs", "reason"].map(|name| Column { name: name.to_owned(), kind: Kind::Text }));
    let conditions = conditions(run);
    let mut asked = Asked::of(run);
    let mut rows = Vec::with_capacity(run.instructions.len());
    for trial in ordered(run) {
        let axes = conditions[trial.row.condition.as_str()].cells();
        for row in &trial.instructions {
            let mut object = object(row);
            object.extend(Condition::columns().map(str::to_owned).zip(axes.iter().map(|cell| cell.as_str().into())));
            object.extend(asked.about(row, &trial.row.response));
            rows.push(cells(&columns, object));
        }
    }
    Sheet { columns, rows }
}

/// The conditions of a run by name.
fn conditions(run: &Run) -> HashMap<String, Condition> {
    run.manifest.conditions().into_iter().collect()
}

fn of_axes() -> impl Iterator<Item = Column> {
    Condition::columns().map(|name| {
        let kind = OF_AXES.iter().find(|(known, _)| *known == name).map_or(Kind::Text, |(_, kind)| *kind);
        Column { name: name.to_owned(), kind }
    })
}

/// The columns of a row type.
fn of_row<Row: Serialize + Default + serde::de::DeserializeOwned>() -> Vec<Column> {
    let names: Vec<String> = object(&Row::default()).into_iter().map(|(name, _)| name).collect();
    let found = kinds::<Row>(&names);
    let axes: HashMap<String, Kind> = of_axes().map(|column| (column.name, column.kind)).collect();
    let columns = names.iter().zip(found);
    columns
        .map(|(name, kind)| Column { name: name.clone(), kind: kind.unwrap_or_else(|| axes[name.as_str()]) })
        .collect()
}

fn object(row: &impl Serialize) -> Map<String, Value> {
    let Value::Object(object) = serde_json::to_value(row).expect("plain data") else { unreachable!("rows are flat") };
    object
}

/// The cells under the columns. A cell of an axis is text in a run's files; here it gets its type.
fn cells(columns: &[Column], mut object: Map<String, Value>) -> Vec<Value> {
    let cell = |column: &Column| {
        let value = object.remove(&column.name).unwrap_or_default();
        match (column.kind, value.as_str()) {
            (Kind::Text, _) | (_, None) => value,
            (Kind::Integer, Some(text)) => text.parse::<i64>().map_or(Value::Null, Value::from),
            (Kind::Number, Some(text)) => text.parse::<f64>().map_or(Value::Null, Value::from),
            (Kind::Boolean, Some(text)) => text.parse::<bool>().map_or(Value::Null, Value::from),
        }
    };
    columns.iter().map(cell).collect()
}

/// What was asked in each example, and why the rules say what they say.
struct Asked<'a> {
    examples: HashMap<&'a str, Vec<(&'a Instruction, Option<Checker>)>>,
}

impl<'a> Asked<'a> {
    fn of(run: &'a Run) -> Self {
        let checker = |instruction: &Instruction| Checker::new(&instruction.kind, &instruction.kwargs).ok();
        let examples = run.prompts.iter().flatten().map(|row| {
            let instructions = row.instructions.iter().map(|instruction| (instruction, checker(instruction)));
            (row.example_id.as_str(), instructions.collect())
        });
        Asked { examples: examples.collect() }
    }

    /// The last three cells. There is no reason where today's rule gives another verdict than the row has.
    fn about(&mut self, row: &InstructionRow, response: &str) -> Map<String, Value> {
        let asked = self.examples.get(row.example_id.as_str()).and_then(|all| all.get(row.instruction));
        let mut cells = Map::new();
        let Some((instruction, checker)) = asked else { return cells };
        cells.insert("text".into(), instruction.text.clone().or(instruction.rubric.clone()).into());
        let kwargs = (!instruction.kwargs.is_empty()).then(|| Value::from(instruction.kwargs.clone()).to_string());
        cells.insert("kwargs".into(), kwargs.into());
        let found = checker.as_ref().zip(row.pass_strict).map(|(checker, passed)| (checker.explain(response), passed));
        let reason = found.and_then(|((score, why), passed)| (score::is_full(score) == (passed == 1)).then_some(why));
        cells.insert("reason".into(), reason.into());
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_the_type_of_its_field() {
        let kind = |columns: &[Column], name: &str| columns.iter().find(|column| column.name == name).unwrap().kind;
        let trials = of_row::<TrialRow>();
        for (name, expected) in [
            ("example_id", Kind::Text),
            ("policy", Kind::Text),
            ("ratio", Kind::Number),
            ("keep_last", Kind::Integer),
            ("fair", Kind::Boolean),
            ("seed", Kind::Integer),
            ("mean_score", Kind::Number),
            ("n_kept", Kind::Integer),
            ("response", Kind::Text),
        ] {
            assert_eq!(kind(&trials, name), expected, "{name}");
        }
        let instructions = of_row::<InstructionRow>();
        let expected = [
            ("pass_strict", Kind::Integer),
            ("survival", Kind::Number),
            ("type", Kind::Text),
            ("scored_by", Kind::Text),
        ];
        for (name, expected) in expected {
            assert_eq!(kind(&instructions, name), expected, "{name}");
        }
        for (name, _) in OF_AXES {
            assert!(Condition::columns().any(|column| column == name), "{name} is no column of an axis");
        }
    }
}
