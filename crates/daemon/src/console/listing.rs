//! Decides which rows of the inventory a page shows, and in which order.
//!
//! Knows nothing of a request but its query, and knows no page.

use serde::Serialize;

use super::pages::percent_encode;
use crate::http::error::{HttpError, HttpErrorCode};
use crate::http::request;
use crate::inventory::Filter;
use guillemet_api::secrets::{SecretStatus, SecretView};

/// The most rows on one page.
pub const ROWS: usize = 50;

/// The columns that rows can be sorted by, each with its label. The first is the default.
const SORTS: [(&str, &str); 4] =
    [("name", "Name"), ("status", "Status"), ("usage", "Usage count"), ("last_used", "Last used")];

/// The rows that a page of the inventory has to show, as its query asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InventoryQuery {
    query: String,
    status: String,
    sort: String,
    descending: bool,
    offset: usize,
}

/// The heading of a column.
#[derive(Debug, Serialize)]
pub struct Column {
    label: &'static str,
    /// The query that sorts by this column, or reverses the order if the rows are sorted by it already.
    href: String,
    /// The value of `aria-sort`.
    sorted: &'static str,
}

impl InventoryQuery {
    /// Reads the query of a URL. An empty parameter counts as absent, because forms send every field.
    ///
    /// # Errors
    /// A validation error or a bad request, if a parameter is unknown, given twice or has an unknown value.
    pub fn read(raw: Option<&str>) -> Result<Self, HttpError> {
        let parameters = ["query", "status", "sort", "direction", "offset"];
        let [query, status, sort, direction, offset] = request::query(raw, parameters)?.map(Option::unwrap_or_default);
        let one_of = |name: &str, value: &str, allowed: &[&str]| {
            let message = || format!("`{name}` must be one of {}", allowed.join(", "));
            let is_allowed = value.is_empty() || allowed.contains(&value);
            if is_allowed { Ok(()) } else { Err(HttpError::new(HttpErrorCode::BadRequest, message())) }
        };
        one_of("status", &status, &SecretStatus::ALL.map(|(name, _)| name))?;
        one_of("sort", &sort, &SORTS.map(|(name, _)| name))?;
        one_of("direction", &direction, &["asc", "desc"])?;
        let offset = match offset.as_str() {
            "" => 0,
            digits => {
                digits.parse().map_err(|_| HttpError::new(HttpErrorCode::BadRequest, "`offset` must be a number"))?
            }
        };
        let sort = if sort.is_empty() { SORTS[0].0.to_owned() } else { sort };
        Ok(Self { query, status, sort, descending: direction == "desc", offset })
    }

    /// Returns the query of a URL that reads as this listing.
    pub fn to_query(&self) -> String {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: &str| pairs.push(format!("{name}={}", percent_encode(value)));
        if !self.query.is_empty() {
            add("query", &self.query);
        }
        if !self.status.is_empty() {
            add("status", &self.status);
        }
        if self.sort != SORTS[0].0 || self.descending {
            add("sort", &self.sort);
            add("direction", if self.descending { "desc" } else { "asc" });
        }
        if self.offset > 0 {
            add("offset", &self.offset.to_string());
        }
        pairs.join("&")
    }

    /// Returns the headings of the columns.
    pub fn columns(&self) -> Vec<Column> {
        let column = |(sort, label): (&str, &'static str)| {
            let is_current = sort == self.sort;
            // The first click shows the most used or the latest first, but names from the beginning of the alphabet.
            let descending = if is_current { !self.descending } else { matches!(sort, "usage" | "last_used") };
            let other = Self { sort: sort.into(), descending, offset: 0, ..self.clone() };
            let sorted = match (is_current, self.descending) {
                (false, _) => "none",
                (true, false) => "ascending",
                (true, true) => "descending",
            };
            Column { label, href: other.to_query(), sorted }
        };
        SORTS.map(column).into()
    }

    /// Returns the filter for the inventory.
    pub fn filter(&self) -> Filter {
        let status = SecretStatus::ALL.iter().find(|(name, _)| *name == self.status).map(|(_, status)| *status);
        let query = Some(self.query.clone()).filter(|query| !query.is_empty());
        // Without a page, because the rows are sorted here.
        Filter { query, status, ..Filter::default() }
    }

    /// Returns the rows of this page, out of all that pass the filter.
    pub fn page(&self, mut rows: Vec<SecretView>) -> Vec<SecretView> {
        // They arrive sorted by name, and a stable sort keeps that order among equals.
        match self.sort.as_str() {
            "status" => rows.sort_by_key(|row| row.status as u8),
            "usage" => rows.sort_by_key(|row| row.usage_count),
            "last_used" => rows.sort_by(|a, b| a.last_used_at.cmp(&b.last_used_at)),
            _ => {}
        }
        if self.descending {
            rows.reverse();
        }
        rows.into_iter().skip(self.offset).take(ROWS).collect()
    }

    /// Returns the queries of the previous and the next page, if there are such pages.
    pub fn neighbours(&self, count: usize) -> (Option<String>, Option<String>) {
        let at = |offset| Self { offset, ..self.clone() }.to_query();
        let before = (self.offset > 0).then(|| at(self.offset.saturating_sub(ROWS)));
        let next = self.offset.saturating_add(ROWS);
        (before, (next < count).then(|| at(next)))
    }

    /// Returns the number of the first row, counted from 1.
    pub fn first(&self) -> usize {
        self.offset + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_its_query() {
        for query in ["", "query=a%26b", "query=x&status=missing&sort=usage&direction=desc&offset=50"] {
            assert_eq!(InventoryQuery::read(Some(query)).unwrap().to_query(), query);
        }
        let sent = "query=&status=&sort=name&direction=asc&offset=";
        assert_eq!(InventoryQuery::read(Some(sent)).unwrap(), InventoryQuery::read(None).unwrap());
        for invalid in ["status=x", "sort=x", "direction=x", "offset=x", "other=1", "sort=name&sort=name"] {
            assert!(InventoryQuery::read(Some(invalid)).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_column_turns_round_where_it_is_sorted_by_it() {
        let columns = InventoryQuery::read(Some("sort=usage&direction=desc&offset=50")).unwrap().columns();
        assert_eq!((columns[2].sorted, columns[2].href.as_str()), ("descending", "sort=usage&direction=asc"));
        assert_eq!((columns[3].sorted, columns[3].href.as_str()), ("none", "sort=last_used&direction=desc"));
        assert_eq!((columns[0].sorted, columns[0].href.as_str()), ("none", ""));
    }
}
