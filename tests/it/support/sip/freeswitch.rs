//! Reads a gateway by FreeSWITCH's rules, down to the credentials that sofia-sip uses, in place of FreeSWITCH, which
//! Debian does not have.
//!
//! Written from the sources [signalwire/freeswitch src/switch_xml.c (preprocess, expand_vars) and
//! src/mod/endpoints/mod_sofia/sofia_reg.c; sofia-sip libsofia-sip-ua/iptsec/auth_client.c (auc_credentials); read
//! 2026-11].

use std::collections::BTreeMap;

/// The variables that are set. A `$${…}` with any other name expands to nothing.
const VARIABLES: [(&str, &str); 2] = [("x", "expanded"), ("domain", "pbx.example")];

/// Returns the parameters of the only gateway in a file.
///
/// # Errors
/// With the message of the XML parser.
pub fn read(file: &str) -> Result<BTreeMap<String, String>, String> {
    let text = format!("<document>\n{}</document>\n", preprocessed(file));
    let document = roxmltree::Document::parse(&text).map_err(|error| error.to_string())?;
    let gateways: Vec<_> = document.root_element().children().filter(roxmltree::Node::is_element).collect();
    assert!(gateways.len() == 1 && gateways[0].has_tag_name("gateway"), "one gateway, and nothing beside it");
    let mut parameters = BTreeMap::new();
    for parameter in gateways[0].children().filter(roxmltree::Node::is_element) {
        let of = |name: &str| parameter.attribute(name).expect("name and value").to_owned();
        assert!(parameters.insert(of("name"), of("value")).is_none(), "a parameter stands twice");
    }
    Ok(parameters)
}

/// Processes the lines as FreeSWITCH does before it parses the XML: removes lines with `<include>`, expands `$${…}`,
/// and removes lines that name `X-PRE-PROCESS`.
fn preprocessed(file: &str) -> String {
    let mut out = String::new();
    for line in file.split_inclusive('\n') {
        if ["<include>", "</include>", "<?"].iter().any(|mark| line.contains(mark)) {
            continue;
        }
        let line = expanded(line);
        assert!(!line.contains("<!--#"), "a command in a comment");
        if !line.to_ascii_lowercase().contains("x-pre-process") {
            out.push_str(&line);
        }
    }
    out
}

fn expanded(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, behind)) = rest.split_once("$${") {
        out.push_str(before);
        let Some((name, after)) = behind.split_once('}') else {
            out.push_str("$${");
            rest = behind;
            continue;
        };
        out.push_str(VARIABLES.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    out + rest
}

/// Returns the user and the password that sofia-sip takes from FreeSWITCH's text for a challenge.
pub fn credentials(parameters: &BTreeMap<String, String>, realm: &str) -> (String, String) {
    let user = parameters.get("auth-username").unwrap_or(&parameters["username"]);
    let text = format!("Digest:\"{realm}\":{user}:{}", parameters["password"]);
    // FreeSWITCH's buffer has 256 bytes.
    let text: String = text.chars().take(255).collect();
    let behind_realm = text.strip_prefix("Digest:\"").unwrap().split_once("\":").unwrap().1;
    let mut pieces = behind_realm.split(':');
    (pieces.next().unwrap().to_owned(), pieces.next().unwrap_or_default().to_owned())
}
