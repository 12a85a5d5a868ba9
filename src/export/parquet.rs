//! Apache Parquet (format 2, Snappy): a nullable column for each column of a sheet.

use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::Result;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;
use serde_json::Value;

use super::{Column, Kind, Sheet};

/// Rows of a row group: what a reader holds at once.
const GROUP: usize = 1 << 17;

/// The sheet as a Parquet file.
pub fn of(sheet: &Sheet) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(sheet, &mut bytes).expect("memory does not fail, and every cell has its column's type");
    bytes
}

fn write(sheet: &Sheet, bytes: &mut Vec<u8>) -> Result<()> {
    let fields = sheet.columns.iter().map(field).collect::<Result<_>>()?;
    let schema = Type::group_type_builder("kvllama").with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("kvllama {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut writer = SerializedFileWriter::new(bytes, Arc::new(schema), Arc::new(properties))?;
    for rows in sheet.rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        for (at, column) in sheet.columns.iter().enumerate() {
            let cells = || rows.iter().map(|row| &row[at]);
            match column.kind {
                Kind::Text => cells_of::<ByteArrayType>(&mut group, cells(), |value| Some(value.as_str()?.into())),
                Kind::Integer => cells_of::<Int64Type>(&mut group, cells(), Value::as_i64),
                Kind::Number => cells_of::<DoubleType>(&mut group, cells(), Value::as_f64),
                Kind::Boolean => cells_of::<BoolType>(&mut group, cells(), Value::as_bool),
            }?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn field(column: &Column) -> Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Boolean => (Physical::BOOLEAN, None),
    };
    let field = Type::primitive_type_builder(&column.name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL);
    field.build().map(Arc::new)
}

/// Writes one column: the values, and for each row whether it has one.
fn cells_of<'a, T: DataType>(
    group: &mut SerializedRowGroupWriter<&mut Vec<u8>>,
    cells: impl Iterator<Item = &'a Value>,
    value: impl Fn(&Value) -> Option<T::T>,
) -> Result<()> {
    let cells: Vec<Option<T::T>> = cells.map(value).collect();
    let present: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    let mut column = group.next_column()?.expect("a writer for each column");
    column.typed::<T>().write_batch(&values, Some(&present), None)?;
    column.close()
}
