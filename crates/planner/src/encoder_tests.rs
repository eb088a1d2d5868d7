//! Text with slots becomes expressions; a broken rule of the contract ends the call.

use super::*;
use guillemet_plan::encode::ENCODERS;
use guillemet_template::ValueFilter;

/// Calls the encoder with this name, with an option and a reason.
fn call(encoder: &mut Encoder, name: &str, texts: &[&str], option: &str, reason: &str) -> Result<String, PluginError> {
    let definition = ENCODERS.iter().find(|definition| definition.name == name).unwrap();
    let options = EncoderOptions { option: option.into(), reason: reason.into(), ..EncoderOptions::default() };
    encoder.call(definition, texts, options)
}

fn encoder(filters: &[ValueFilter]) -> (Encoder, String) {
    let slot = slots::random_slot();
    let emissions = [Emission { reference: 0, field: "headers.Authorization".into() }];
    let references = [PlanReference { name: "api".into(), line: 1, column: 1, filters: filters.to_vec() }];
    let encoder = Encoder::new([(slot.clone(), 0)].into(), &emissions, &references, TextPlaces::default());
    (encoder, slot)
}

#[test]
fn expressions_hold_what_stands_around_a_slot() {
    let (mut encoder, slot) = encoder(&[]);
    let lower = slot.to_lowercase();
    let fresh = encoder.apply(Op::HeaderValue, &[&format!("Bearer {lower}!")]).unwrap();
    assert_ne!(fresh, slot);
    let parts = vec![Part::Literal("Bearer ".into()), Part::Expr(Expr::Secret(0)), Part::Literal("!".into())];
    assert_eq!(encoder.expr(&fresh), Some(&Expr::Apply { op: Op::HeaderValue, args: vec![parts] }));
    let both = encoder.apply(Op::BasicCredentials, &["user", &slot]).unwrap();
    let Some(Expr::Apply { args, .. }) = encoder.expr(&both) else { panic!() };
    assert_eq!(args[0], [Part::Literal("user".into())]);
    assert_eq!(encoder.expr(&both).unwrap().emissions(), [0]);
}

#[test]
fn secrets_are_recognised_and_forged_ones_end_the_call() {
    let (mut encoder, slot) = encoder(&[]);
    assert_eq!(encoder.has_secret("plain"), Ok(false));
    assert_eq!(encoder.has_secret(&format!("a{slot}")), Ok(true));
    assert_eq!(encoder.whole_secret(&format!("a{slot}")), Ok(false));
    assert_eq!(encoder.whole_secret(&slot.to_lowercase()), Ok(true));
    let forged = slots::random_slot();
    assert!(encoder.has_secret(&forged).is_err());
    assert!(encoder.whole_secret(&forged).is_err());
    assert!(encoder.apply(Op::Base64, &[&forged]).is_err());
    assert!(encoder.apply(Op::Url, &[&forged]).is_err());
}

#[test]
fn a_slot_inside_a_url_must_be_percent_safe() {
    for (filters, safe) in [
        (&[][..], false),
        (&[ValueFilter::Base64], false),
        (&[ValueFilter::Url, ValueFilter::Trim], false),
        (&[ValueFilter::Trim, ValueFilter::Url], true),
        (&[ValueFilter::Hex], true),
        (&[ValueFilter::Base64url], true),
    ] {
        let (mut encoder, slot) = encoder(filters);
        encoder.apply(Op::Url, &[&format!("https://example.org/{slot}")]).unwrap();
        let problems = encoder.take_problems();
        assert_eq!(problems.is_empty(), safe, "{filters:?}");
        assert!(problems.iter().all(|p| p.path == "headers.Authorization" && p.help.is_some()));
    }
    let (mut encoder, slot) = encoder(&[]);
    encoder.apply(Op::Url, &[&slot]).unwrap();
    let query = encoder.apply(Op::UrlQuery, &[&slot]).unwrap();
    encoder.apply(Op::Url, &[&format!("https://example.org/?q={query}")]).unwrap();
    assert!(encoder.take_problems().is_empty());
}

#[test]
fn forbid_asks_for_something_and_looks_at_the_text_around() {
    let (mut encoder, slot) = encoder(&[]);
    assert!(call(&mut encoder, "forbid", &[&slot], "", "why").is_err());
    assert!(call(&mut encoder, "forbid-sequence", &[&slot], "", "why").is_err());
    call(&mut encoder, "forbid", &[&slot], ":", "why").unwrap();
    assert!(encoder.take_problems().is_empty());
    call(&mut encoder, "forbid", &[&format!("a:{slot}")], ":", "no colon\u{7}").unwrap();
    assert_eq!(encoder.take_problems()[0].message, "no colon");
    call(&mut encoder, "forbid-sequence", &[&format!("${{a}}{slot}")], "${", "why").unwrap();
    assert!(encoder.take_problems().is_empty());
}

#[test]
fn expressions_are_bounded_before_they_are_copied() {
    let (mut encoder, slot) = encoder(&[]);
    let mut wide = slot.clone();
    let error = loop {
        match encoder.apply(Op::Base64, &[&format!("{wide}{wide}")]) {
            Ok(next) => wide = next,
            Err(error) => break error,
        }
    };
    assert!(error.0.contains("encoders") || error.0.contains("MiB"), "{error}");
    let (mut encoder, slot) = self::encoder(&[]);
    let long = format!("{}{slot}", "x".repeat(1 << 20));
    let error = (0..10).find_map(|_| encoder.apply(Op::Xml, &[&long]).err()).unwrap();
    assert!(error.0.contains("4 MiB"), "{error}");
}

#[test]
fn an_unknown_digest_algorithm_ends_the_call() {
    for (name, algorithm) in DigestAlgorithm::ALL {
        assert_eq!(digest_algorithm(name), Ok(algorithm));
    }
    assert!(digest_algorithm("MD4").is_err());
}
