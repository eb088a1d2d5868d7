//! Decodes the query of a URL.

use percent_encoding::percent_decode_str;

/// Something that is wrong with a field or parameter of a request: its name, and what is wrong.
pub type FieldError = (String, String);

/// Reads a query (`application/x-www-form-urlencoded`): each parameter of `names` at most once, and no others. Returns
/// the values in the order of `names`, and adds everything that is wrong to `errors`.
pub fn parameters<const N: usize>(
    raw: Option<&str>,
    names: [&str; N],
    errors: &mut Vec<FieldError>,
) -> [Option<String>; N] {
    let mut values = [const { None }; N];
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (decode(key), decode(value)) else {
            errors.push((String::new(), "a parameter is not UTF-8".to_owned()));
            continue;
        };
        match names.iter().position(|name| *name == key) {
            None if N == 0 => errors.push((key, "this path takes no parameters".to_owned())),
            None => errors.push((key, format!("unknown parameter; use one of: {}", names.join(", ")))),
            Some(index) if values[index].is_some() => errors.push((key, "is given twice".to_owned())),
            Some(index) => values[index] = Some(value),
        }
    }
    values
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_reported() {
        let mut errors = Vec::new();
        let read = parameters(Some("b=1%2B+2&c=3&b=4&%FF=5&&a"), ["a", "b"], &mut errors);
        assert_eq!(read, [Some(String::new()), Some("1+ 2".to_owned())]);
        let errors: Vec<_> = errors.iter().map(|(name, message)| (name.as_str(), message.as_str())).collect();
        assert_eq!(
            errors,
            [("c", "unknown parameter; use one of: a, b"), ("b", "is given twice"), ("", "a parameter is not UTF-8")]
        );
        let mut errors = Vec::new();
        let [] = parameters(Some("x=1"), [], &mut errors);
        assert_eq!(errors, [("x".to_owned(), "this path takes no parameters".to_owned())]);
    }
}
