//! CSV (RFC 4180, UTF-8): an empty cell is empty, a truth value `true` or `false`.

use serde_json::Value;

use super::{Kind, Sheet};

/// The sheet as CSV with a header; `excel_safe` as in [`neutral`].
pub fn of(sheet: &Sheet, excel_safe: bool) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(sheet.columns.iter().map(|column| &column.name)).expect("memory does not fail");
    for row in &sheet.rows {
        let cells = sheet.columns.iter().zip(row).map(|(column, value)| match value {
            Value::Null => String::new(),
            Value::String(text) if excel_safe && column.kind == Kind::Text => neutral(text),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(cells).expect("memory does not fail");
    }
    writer.into_inner().expect("memory does not fail")
}

/// Text that a spreadsheet takes as text: one that begins with a character with which formulas begin gets an
/// apostrophe before it, as OWASP recommends (<https://owasp.org/www-community/attacks/CSV_Injection>).
pub fn neutral(text: &str) -> String {
    const STARTS: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    if text.trim_start_matches([' ', '\n']).starts_with(STARTS) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    #[test]
    fn formulas_are_neutralized_in_text_and_numbers_stay_numbers() {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let sheet = Sheet {
            columns: vec![column("response", Kind::Text), column("x", Kind::Number)],
            rows: vec![
                vec!["=HYPERLINK(\"http://x\")".into(), Value::from(-1.5)],
                vec![" \n-2".into(), Value::Null],
                vec!["a=b, \"c\"".into(), Value::from(2)],
            ],
        };
        let text = |safe| String::from_utf8(of(&sheet, safe)).unwrap();
        assert_eq!(
            text(true),
            "response,x\n\"'=HYPERLINK(\"\"http://x\"\")\",-1.5\n\"' \n-2\",\n\"a=b, \"\"c\"\"\",2\n"
        );
        assert!(text(false).starts_with("response,x\n\"=HYPERLINK"));
    }
}
