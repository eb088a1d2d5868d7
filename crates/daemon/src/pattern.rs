//! Patterns of names, as in a shell: `*` matches any run of characters and `?` matches one; neither matches `/` or `:`.

/// A pattern. Whether it distinguishes upper and lower case depends on the kind of names it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    ignores_case: bool,
}

impl Pattern {
    /// Returns a pattern for names in which case counts: ids of templates and targets.
    pub fn exact(text: &str) -> Self {
        Self { text: text.into(), ignores_case: false }
    }

    /// Returns a pattern for names that are equal in upper and lower case (ASCII): those of secrets.
    pub fn ignoring_case(text: &str) -> Self {
        Self { text: text.to_ascii_lowercase().into(), ignores_case: true }
    }

    /// Reports whether the pattern matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.text.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // The position of the last `*`, and the end of the text that it has matched.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            let c = if self.ignores_case { text[t].to_ascii_lowercase() } else { text[t] };
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(b'?') if crossable(c) => (p, t) = (p + 1, t + 1),
                Some(expected) if *expected == c && *expected != b'?' => (p, t) = (p + 1, t + 1),
                _ => match star {
                    Some((at, taken)) if crossable(text[taken]) => {
                        star = Some((at, taken + 1));
                        (p, t) = (at + 1, taken + 1);
                    }
                    _ => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

fn crossable(c: u8) -> bool {
    !matches!(c, b'/' | b':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stay_within_a_part() {
        for (pattern, text, matches) in [
            ("mcp-server/*", "mcp-server/calendar", true),
            ("mcp-server/cal?ndar", "mcp-server/calEndar", true),
            ("mcp-server/*", "mcp-server/a/b", false),
            ("mcp-server/*", "mcp-server/a:json", false),
            ("*", "mcp-server/a", false),
            ("*/*", "mcp-server/a", true),
            ("*/*:live*", "sip-trunk/a:livekit", true),
            ("?", "/", false),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxbxcd", false),
            ("**", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a?", "a", false),
        ] {
            assert_eq!(Pattern::exact(pattern).matches(text), matches, "{pattern} {text}");
            assert_eq!(Pattern::ignoring_case(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn case_counts_where_the_names_tell_it_apart() {
        for (pattern, text) in
            [("f/allowed", "f/ALLOWED"), ("f/ALLOWED", "f/allowed"), ("f/All*", "f/allowed"), ("F/*", "f/a")]
        {
            assert!(!Pattern::exact(pattern).matches(text), "{pattern} {text}");
            assert!(Pattern::ignoring_case(pattern).matches(text), "{pattern} {text}");
        }
    }

    /// The definition, in plain recursion and without regard to time.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => plainly(rest, text),
            (Some((b'*', rest)), Some((c, behind))) => plainly(rest, text) || crossable(*c) && plainly(pattern, behind),
            (Some((b'?', rest)), Some((c, behind))) => crossable(*c) && plainly(rest, behind),
            (Some((p, rest)), Some((c, behind))) => p == c && plainly(rest, behind),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_as_defined(pattern in "[ab/:*?]{0,8}", text in "[ab/:]{0,10}") {
            prop_assert_eq!(Pattern::exact(&pattern).matches(&text), plainly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
