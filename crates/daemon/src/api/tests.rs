//! Compares `openapi.yaml` with the tables of routes and error codes.

use std::collections::BTreeSet;

use super::routes::ROUTES;
use crate::http::error::HttpErrorCode;
use guillemet_http::error::ErrorTable as _;
use guillemet_http::router::{RouteMatch, Router};

fn openapi() -> serde_json::Value {
    serde_saphyr::from_str(include_str!("../../../../openapi.yaml")).unwrap()
}

#[test]
fn openapi_lists_exactly_the_routes() {
    let documented: BTreeSet<(String, String)> = openapi()["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let routes: BTreeSet<(String, String)> =
        ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented, routes);
}

#[test]
fn openapi_lists_exactly_the_codes() {
    let listed = openapi()["components"]["schemas"]["Error"]["properties"]["code"]["enum"].clone();
    let documented: BTreeSet<String> =
        listed.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    let codes: BTreeSet<String> = HttpErrorCode::ALL.iter().map(|(_, name, _)| (*name).to_owned()).collect();
    assert_eq!(documented, codes);
}

#[test]
fn every_route_is_found() {
    let router = Router::new(&ROUTES);
    for (method, path, endpoint) in ROUTES {
        let path = path.replace("{name}", "a%20b").replace("{feature}", "f");
        assert!(matches!(router.find(method, &path), RouteMatch::Endpoint(found, _) if found == endpoint), "{path}");
    }
    assert!(matches!(router.find("PUT", "/v1/secrets"), RouteMatch::OtherMethods(methods) if methods == "GET, POST"));
    assert!(matches!(router.find("GET", "/v1/secrets/"), RouteMatch::Nothing));
}
