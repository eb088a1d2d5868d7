//! Finds the endpoint of a request in a table of routes.

pub use matchit::Params;

/// The method, path and endpoint of a route. Parameters in the path are in braces, such as `/v1/secrets/{name}`.
pub type Route<E> = (&'static str, &'static str, E);

/// The endpoints of one path, each with its method.
type Methods<E> = Vec<(&'static str, E)>;

/// Finds the endpoint for a method and a path.
#[derive(Debug)]
pub struct Router<E>(matchit::Router<Methods<E>>);

/// The result of looking up a method and a path.
#[derive(Debug)]
pub enum RouteMatch<'a, E> {
    /// An endpoint, with the parameters of the path (still percent-encoded).
    Endpoint(E, Params<'a, 'a>),
    /// The path exists, but only for these methods, separated by commas.
    OtherMethods(String),
    /// No route has this path.
    Nothing,
}

impl<E: Copy> Router<E> {
    /// Makes a router for a table of routes.
    ///
    /// # Panics
    /// In debug builds, if two paths of the table conflict.
    pub fn new(routes: &[Route<E>]) -> Self {
        let mut by_path: Vec<(&'static str, Methods<E>)> = Vec::new();
        for (method, path, endpoint) in routes {
            match by_path.iter_mut().find(|(existing, _)| existing == path) {
                Some((_, methods)) => methods.push((method, *endpoint)),
                None => by_path.push((path, vec![(method, *endpoint)])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, methods) in by_path {
            let inserted = router.insert(path, methods);
            debug_assert!(inserted.is_ok(), "the paths of a table do not conflict");
        }
        Self(router)
    }

    /// Returns what this method and path lead to.
    pub fn find<'a>(&'a self, method: &str, path: &'a str) -> RouteMatch<'a, E> {
        let Ok(matched) = self.0.at(path) else {
            return RouteMatch::Nothing;
        };
        match matched.value.iter().find(|(supported, _)| *supported == method) {
            Some((_, endpoint)) => RouteMatch::Endpoint(*endpoint, matched.params),
            None => {
                let methods: Vec<&str> = matched.value.iter().map(|(method, _)| *method).collect();
                RouteMatch::OtherMethods(methods.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_exists_lists_its_methods_and_any_other_leads_nowhere() {
        let router = Router::new(&[("GET", "/a", 1), ("POST", "/a", 2), ("GET", "/a/{name}", 3)]);
        assert!(matches!(router.find("POST", "/a"), RouteMatch::Endpoint(2, _)));
        let RouteMatch::Endpoint(3, params) = router.find("GET", "/a/x%2Fy") else { panic!("the third route") };
        assert_eq!(params.get("name"), Some("x%2Fy"));
        assert!(matches!(router.find("PUT", "/a"), RouteMatch::OtherMethods(methods) if methods == "GET, POST"));
        for path in ["/", "/a/", "/a/b/c", "a", ""] {
            assert!(matches!(router.find("GET", path), RouteMatch::Nothing), "{path}");
        }
    }
}
