//! Reads the forms that a browser sends. Their fields are wiped on drop, because one may be a value.
//!
//! Knows no page.

use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::http::error::{HttpError, HttpErrorCode};

/// The fields of a form. Each name occurs at most once.
pub struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads an `application/x-www-form-urlencoded` body, which may contain only these fields.
    ///
    /// # Errors
    /// A bad request. Its message contains nothing of the body.
    pub fn read(body: &[u8], allowed: &[&str]) -> Result<Self, HttpError> {
        let bad_request = |message: &str| HttpError::new(HttpErrorCode::BadRequest, message);
        let mut fields: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let middle = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, text) = (decode(&pair[..middle])?, decode(pair.get(middle + 1..).unwrap_or_default())?);
            let Some(name) = allowed.iter().find(|field| **field == *name) else {
                return Err(bad_request("the form contains an unknown field; reload the page and try again"));
            };
            if fields.iter().any(|(other, _)| other == name) {
                return Err(bad_request("the form contains a field twice; reload the page and try again"));
            }
            fields.push(((*name).to_owned(), text));
        }
        Ok(Self(fields))
    }

    /// Removes a field and returns its text; empty if there is no such field.
    pub fn take(&mut self, name: &str) -> Zeroizing<String> {
        let position = self.0.iter().position(|(field, _)| field == name);
        position.map(|index| self.0.swap_remove(index).1).unwrap_or_default()
    }

    /// Returns whether a checkbox is checked. Removes the field.
    pub fn is_ticked(&mut self, name: &str) -> bool {
        !self.take(name).is_empty()
    }

    /// Removes a field and returns its text as the value of a secret. Browsers send every line break of a text area as
    /// CR LF, whatever was typed or pasted, so these become LF again. A line break at the end is removed, as it is from
    /// a file.
    pub fn value(&mut self, name: &str) -> Zeroizing<String> {
        let mut text = Zeroizing::new(self.take(name).replace("\r\n", "\n"));
        if text.ends_with('\n') {
            text.pop();
        }
        text
    }
}

fn decode(raw: &[u8]) -> Result<Zeroizing<String>, HttpError> {
    let spaced: Zeroizing<Vec<u8>> = Zeroizing::new(raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect());
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        // The allocator wipes the bytes when the error is dropped.
        Err(_) => Err(HttpError::new(HttpErrorCode::BadRequest, "the form is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let mut form =
            Form::read(b"name=a%2Fb+c&value=1%0D%0A2%0D%0A&enabled=on", &["name", "value", "enabled"]).unwrap();
        assert_eq!(*form.take("name"), "a/b c");
        assert_eq!(*form.value("value"), "1\n2");
        assert!(form.is_ticked("enabled"));
        assert!(!form.is_ticked("enabled"));
        assert_eq!(*Form::read(b"", &[]).unwrap().take("x"), "");
    }

    #[test]
    fn what_is_not_a_form_is_refused() {
        for body in [&b"other=1"[..], b"a=1&a=2", b"a=%FF", b"x"] {
            assert!(Form::read(body, &["a"]).is_err());
        }
    }
}
