//! Tests that `openapi-account.yaml` matches the tables.

use std::collections::BTreeSet;

use super::error::ServerErrorCode;
use super::routes::ROUTES;
use guillemet_http::error::ErrorTable as _;
use guillemet_http::router::{RouteMatch, Router};

fn openapi() -> serde_json::Value {
    serde_saphyr::from_str(include_str!("../../../openapi-account.yaml")).unwrap()
}

#[test]
fn openapi_lists_exactly_the_routes() {
    let openapi = openapi();
    let mut documented = BTreeSet::new();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            // An endpoint needs no key if the description says so.
            documented.insert((method.to_uppercase(), path.clone(), described.get("security").is_some()));
        }
    }
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .map(|(method, path, endpoint)| ((*method).to_owned(), (*path).to_owned(), endpoint.keys().is_empty()))
        .collect();
    assert_eq!(documented, routes);
}

#[test]
fn openapi_lists_exactly_the_codes() {
    let listed = openapi()["components"]["schemas"]["Error"]["properties"]["code"]["enum"].clone();
    let documented: BTreeSet<String> =
        listed.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    let codes: BTreeSet<String> = ServerErrorCode::ALL.iter().map(|(_, name, _)| (*name).to_owned()).collect();
    assert_eq!(documented, codes);
}

#[test]
fn every_route_is_found() {
    let router = Router::new(&ROUTES);
    for (method, path, endpoint) in ROUTES {
        let path = path.replace("{id}", "00").replace("{device}", "11");
        assert!(matches!(router.find(method, &path), RouteMatch::Endpoint(found, _) if found == endpoint), "{path}");
    }
    let other = router.find("PUT", "/v1/accounts/00/enrolments");
    assert!(matches!(other, RouteMatch::OtherMethods(methods) if methods == "POST, GET"));
    assert!(matches!(router.find("GET", "/v1/accounts/"), RouteMatch::Nothing));
}
