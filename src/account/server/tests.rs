//! What holds of the tables.

use super::routes::{Found, ROUTES, Router};

#[test]
fn every_route_is_found() {
    let router = Router::default();
    for (method, path, endpoint) in ROUTES {
        let path = path.replace("{id}", "00").replace("{device}", "11");
        assert!(matches!(router.find(method, &path), Found::Endpoint(found, _) if found == endpoint), "{path}");
    }
    assert!(
        matches!(router.find("PUT", "/v1/accounts/00/enrolments"), Found::OtherMethods(methods) if methods == "POST, GET")
    );
    assert!(matches!(router.find("GET", "/v1/accounts/"), Found::Nothing));
}
