//! Which rows of the inventory a page shows, and in which order.
//!
//! Knows no request but its query, and no page.

use serde::Serialize;

use super::pages::part;
use crate::http::error::{Code, HttpError};
use crate::http::request;
use crate::inventory::Filter;
use guillemet_api::secrets::{SecretStatus, SecretView};

/// Rows of one page.
pub const ROWS: usize = 50;

/// By what rows are sorted.
const SORTS: [(&str, &str); 4] =
    [("name", "Name"), ("status", "Status"), ("usage", "Usage count"), ("last_used", "Last used")];

/// What a page of the inventory was asked to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    query: String,
    status: String,
    sort: String,
    descending: bool,
    offset: usize,
}

/// The head of a column.
#[derive(Debug, Serialize)]
pub struct Column {
    label: &'static str,
    /// Sorts by it, the other way round where it is sorted by it already.
    href: String,
    /// As `aria-sort` wants it.
    sorted: &'static str,
}

impl Listing {
    /// From the query of a URL. What is empty is as good as absent: forms send every field.
    ///
    /// # Errors
    /// A bad request.
    pub fn read(raw: Option<&str>) -> Result<Self, HttpError> {
        let known = ["query", "status", "sort", "direction", "offset"];
        let [query, status, sort, direction, offset] = request::query(raw, known)?.map(Option::unwrap_or_default);
        let one_of = |name: &str, value: &str, known: &[&str]| {
            let message = || format!("`{name}` has to be one of {}", known.join(", "));
            let fits = value.is_empty() || known.contains(&value);
            if fits { Ok(()) } else { Err(HttpError::new(Code::BadRequest, message())) }
        };
        one_of("status", &status, &SecretStatus::ALL.map(|(name, _)| name))?;
        one_of("sort", &sort, &SORTS.map(|(name, _)| name))?;
        one_of("direction", &direction, &["asc", "desc"])?;
        let offset = match offset.as_str() {
            "" => 0,
            digits => digits.parse().map_err(|_| HttpError::new(Code::BadRequest, "`offset` has to be a number"))?,
        };
        let sort = if sort.is_empty() { SORTS[0].0.to_owned() } else { sort };
        Ok(Self { query, status, sort, descending: direction == "desc", offset })
    }

    /// The same as the query of a URL.
    pub fn to_query(&self) -> String {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: &str| pairs.push(format!("{name}={}", part(value)));
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

    /// The heads of the columns.
    pub fn columns(&self) -> Vec<Column> {
        let column = |(sort, label): (&str, &'static str)| {
            let here = sort == self.sort;
            // The most used and the latest first, the first of the alphabet first.
            let descending = if here { !self.descending } else { matches!(sort, "usage" | "last_used") };
            let other = Self { sort: sort.into(), descending, offset: 0, ..self.clone() };
            let sorted = match (here, self.descending) {
                (false, _) => "none",
                (true, false) => "ascending",
                (true, true) => "descending",
            };
            Column { label, href: other.to_query(), sorted }
        };
        SORTS.map(column).into()
    }

    /// What the inventory is asked for.
    pub fn filter(&self) -> Filter {
        let status = SecretStatus::ALL.iter().find(|(name, _)| *name == self.status).map(|(_, status)| *status);
        let query = Some(self.query.clone()).filter(|query| !query.is_empty());
        // All of them: they are sorted here.
        Filter { query, status, ..Filter::default() }
    }

    /// The rows of this page, out of all that pass the filter.
    pub fn page(&self, mut rows: Vec<SecretView>) -> Vec<SecretView> {
        // They come sorted by name, and stay so among equals.
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

    /// The queries of the page before and of the one behind, where there are any.
    pub fn neighbours(&self, count: usize) -> (Option<String>, Option<String>) {
        let at = |offset| Self { offset, ..self.clone() }.to_query();
        let before = (self.offset > 0).then(|| at(self.offset.saturating_sub(ROWS)));
        let behind = self.offset.saturating_add(ROWS);
        (before, (behind < count).then(|| at(behind)))
    }

    /// The number of the first row, from 1.
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
            assert_eq!(Listing::read(Some(query)).unwrap().to_query(), query);
        }
        let sent = "query=&status=&sort=name&direction=asc&offset=";
        assert_eq!(Listing::read(Some(sent)).unwrap(), Listing::read(None).unwrap());
        for wrong in ["status=x", "sort=x", "direction=x", "offset=x", "other=1", "sort=name&sort=name"] {
            assert!(Listing::read(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_column_turns_round_where_it_is_sorted_by_it() {
        let columns = Listing::read(Some("sort=usage&direction=desc&offset=50")).unwrap().columns();
        assert_eq!((columns[2].sorted, columns[2].href.as_str()), ("descending", "sort=usage&direction=asc"));
        assert_eq!((columns[3].sorted, columns[3].href.as_str()), ("none", "sort=last_used&direction=desc"));
        assert_eq!((columns[0].sorted, columns[0].href.as_str()), ("none", ""));
    }
}
