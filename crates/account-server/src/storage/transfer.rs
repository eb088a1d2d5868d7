//! The copy from SQLite to PostgreSQL: everything as it is, in one transaction. Both have the same tables with the same
//! columns.
//!
//! Knows nothing about what is in them.

use std::error::Error;
use std::path::Path;

use bytes::BytesMut;
use rusqlite::types::ValueRef;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::StorageError;
use super::postgres::Postgres;
use super::sqlite;

/// Copies every account of a folder into a database that has none. Returns the number of accounts. Nothing else may use
/// the folder in the meantime.
///
/// # Errors
/// [`StorageError`] if the folder has no database, or the target already has accounts. Nothing is changed then.
pub async fn copy(folder: &Path, to: &Postgres) -> Result<u64, StorageError> {
    let from = sqlite::open_read_only(folder)?;
    let mut client = to.client().await?;
    let transaction = client.transaction().await?;
    let mut accounts = 0;
    for table in std::iter::once("accounts").chain(sqlite::TABLES) {
        if transaction.query_opt(&format!("SELECT 1 FROM {table} LIMIT 1"), &[]).await?.is_some() {
            return Err(StorageError::Database("it already has accounts; copy into an empty database".into()));
        }
        let mut query = from.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
        let placeholders: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), placeholders.join(", "));
        let insert = transaction.prepare(&insert).await?;
        let mut rows = query.query([])?;
        while let Some(cells) = next(&mut rows, columns.len())? {
            let values: Vec<&(dyn ToSql + Sync)> = cells.iter().map(|cell| cell as _).collect();
            transaction.execute(&insert, &values).await?;
            accounts += u64::from(table == "accounts");
        }
    }
    transaction.commit().await?;
    Ok(accounts)
}

fn next(rows: &mut rusqlite::Rows<'_>, columns: usize) -> Result<Option<Vec<ColumnValue>>, StorageError> {
    let Some(row) = rows.next()? else { return Ok(None) };
    let cell = |index| row.get_ref(index).map(ColumnValue::of);
    Ok(Some((0..columns).map(cell).collect::<Result<_, _>>()?))
}

/// The value of one column in a row.
#[derive(Debug)]
enum ColumnValue {
    Nothing,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl ColumnValue {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_owned()),
            // No column has real numbers.
            ValueRef::Null | ValueRef::Real(_) => Self::Nothing,
        }
    }
}

impl ToSql for ColumnValue {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Nothing => Ok(IsNull::Yes),
            Self::Number(number) if *ty == Type::INT2 => i16::try_from(*number)?.to_sql(ty, out),
            Self::Number(number) => number.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT2, Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}
