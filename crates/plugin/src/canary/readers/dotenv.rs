//! Reads `NAME=value` lines as python-dotenv does (`guillemet_plan::dotenv`). Text that python-dotenv would expand (its
//! variables.py) is an error, because no value should be expanded.

use guillemet_plan::dotenv;

use super::{Leaf, error_at};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    dotenv::read(text).into_iter().map(|found| leaf(text, found)).collect()
}

fn leaf(text: &str, found: Result<dotenv::Variable, usize>) -> Result<Leaf, String> {
    let variable = found.map_err(|at| error_at(text, at, "it is not a line of a dotenv file"))?;
    let start = variable.range.start;
    let Some(value) = variable.value else { return Err(error_at(text, start, "`=` is missing")) };
    if !variable.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(error_at(text, start, "the text before `=` is not a variable name"));
    }
    if value.contains("${") {
        return Err(error_at(text, start, "python-dotenv expands `${`"));
    }
    Ok(Leaf::value(&[&variable.name], (*value).clone()))
}
