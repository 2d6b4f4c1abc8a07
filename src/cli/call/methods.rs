//! All methods that can be called, and how to find them by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::cli::comments;
use crate::pb::descriptors::{self, Descriptors};
use crate::upstream::generation::Generation;

/// Maximum number of suggestions for an unknown method.
const SUGGESTIONS_MAX: usize = 5;

/// The option of an upstream method that holds its rules, and the value of its `forward` for methods that are never
/// forwarded.
const OPTION: &str = "shoreguard.options.v1.upstream";
const FORWARD_NEVER: i32 = 2;

/// All methods, by path without the leading slash.
pub(super) struct Methods(BTreeMap<String, MethodVersions>);

/// The descriptors of a method, one per schema that contains it.
struct MethodVersions {
    own: Option<MethodDescriptor>,
    v0_0: Option<MethodDescriptor>,
    v0_1: Option<MethodDescriptor>,
}

/// The method that a name matches.
pub(super) struct FoundMethod<'a> {
    /// Its path without the leading slash.
    pub(super) path: &'a str,
    shapes: &'a MethodVersions,
}

impl Methods {
    /// Reads the descriptors that are built into this binary, with their comments.
    pub(super) fn load() -> Self {
        Self::load_pools(Descriptors::documented_pool)
    }

    /// Reads the descriptors without their comments, which no call needs: they are two thirds of the bytes, and take a
    /// good part of the time of a short call.
    pub(super) fn load_without_comments() -> Self {
        Self::load_pools(Descriptors::pool)
    }

    fn load_pools(pool: fn(&Descriptors) -> &DescriptorPool) -> Self {
        let mut methods = Self(BTreeMap::new());
        methods.add_pool(pool(&descriptors::OWN), |shapes, method| shapes.own = Some(method));
        methods.add_pool(pool(&descriptors::V0_0), |shapes, method| shapes.v0_0 = Some(method));
        methods.add_pool(pool(&descriptors::V0_1), |shapes, method| shapes.v0_1 = Some(method));
        methods
    }

    fn add_pool(
        &mut self,
        pool: &DescriptorPool,
        put: impl Fn(&mut MethodVersions, MethodDescriptor),
    ) {
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("{}/{}", service.full_name(), method.name());
                let none = || MethodVersions { own: None, v0_0: None, v0_1: None };
                put(self.0.entry(path).or_insert_with(none), method);
            }
        }
    }

    /// Finds a method by its path, or by the end of its path if that is unique. Of several methods, Shoreguard's own
    /// take precedence, or those of gateways if the call is `proxied`.
    pub(super) fn find(&self, name: &str, proxied: bool) -> Result<FoundMethod<'_>, String> {
        let name = name.trim_start_matches('/');
        if let Some((path, shapes)) = self.0.get_key_value(name) {
            return Ok(FoundMethod { path, shapes });
        }
        let ends_so =
            |path: &str| path.strip_suffix(name).is_some_and(|rest| rest.ends_with(['.', '/']));
        let found = self.0.iter().filter(|(path, _)| !name.is_empty() && ends_so(path));
        let mut found: Vec<(&String, &MethodVersions)> = found.collect();
        let is_preferred = |shapes: &MethodVersions| shapes.own.is_none() == proxied;
        if found.iter().any(|(_, shapes)| is_preferred(shapes)) {
            found.retain(|(_, shapes)| is_preferred(shapes));
        }
        match *found.as_slice() {
            [] => Err(self.unknown_method(name)),
            [(path, shapes)] => Ok(FoundMethod { path, shapes }),
            [..] => {
                let all: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
                Err(format!("`{name}` can be `{}`: add the service", all.join("` or `")))
            }
        }
    }

    fn unknown_method(&self, name: &str) -> String {
        let method = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let mut near: Vec<&str> = self
            .0
            .keys()
            .filter(|path| !method.is_empty() && path.to_ascii_lowercase().contains(&method))
            .map(String::as_str)
            .collect();
        // The shorter the name of the method, the larger the part that matches.
        near.sort_by_key(|path| path.rsplit('/').next().map(str::len));
        near.truncate(SUGGESTIONS_MAX);
        if near.is_empty() {
            return format!("no method `{name}`; `shoreguard call --list` names all");
        }
        format!("no method `{name}`; there is `{}`", near.join("`, `"))
    }

    /// Returns every path, one per line, with notes on streams and generations. With a filter, only paths that contain
    /// it, in any case, each with the first sentence about it.
    pub(super) fn list(&self, filter: Option<&str>) -> String {
        let mut list = String::new();
        let filter = filter.map(str::to_ascii_lowercase);
        let is_listed = |path: &str| {
            filter.as_deref().is_none_or(|filter| path.to_ascii_lowercase().contains(filter))
        };
        for (path, shapes) in self.0.iter().filter(|(path, _)| is_listed(path)) {
            let method = [&shapes.own, &shapes.v0_1, &shapes.v0_0].into_iter().flatten().next();
            let stream = match method.map(|m| (m.is_client_streaming(), m.is_server_streaming())) {
                Some((true, _)) => "  takes a stream",
                Some((false, true)) => "  answers with a stream",
                Some((false, false)) | None => "",
            };
            let only = match (&shapes.own, &shapes.v0_0, &shapes.v0_1) {
                (None, Some(_), None) => "  generation 0.0 only",
                (None, None, Some(_)) => "  generation 0.1 only",
                _ => "",
            };
            let never = method.filter(|method| is_never_forwarded(method));
            let never = never.map_or("", |_| "  never forwarded");
            writeln!(list, "{path}{stream}{only}{never}").expect("a string takes all");
            let about = method.filter(|_| filter.is_some()).map(comments::of_method);
            let about = about.map(|comment| comments::first_sentence(&comment)).unwrap_or_default();
            if !about.is_empty() {
                writeln!(list, "    {about}").expect("a string takes all");
            }
        }
        list.truncate(list.trim_end().len());
        list
    }
}

impl FoundMethod<'_> {
    /// Whether the method is one of Shoreguard's own.
    pub(super) fn is_own(&self) -> bool {
        self.shapes.own.is_some()
    }

    /// Returns the method if it can be determined without calling the server for the generation, otherwise `None`.
    pub(super) fn if_known(
        &self,
        generation: Option<Generation>,
    ) -> Result<Option<MethodDescriptor>, String> {
        match (&self.shapes.own, generation) {
            (Some(own), _) => Ok(Some(own.clone())),
            (None, Some(generation)) => self.in_generation(generation).cloned().map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Returns the method in a generation.
    pub(super) fn in_generation(
        &self,
        generation: Generation,
    ) -> Result<&MethodDescriptor, String> {
        let shape = match generation {
            Generation::V0_0 => &self.shapes.v0_0,
            Generation::V0_1 => &self.shapes.v0_1,
        };
        shape.as_ref().ok_or_else(|| format!("`{}` is not in generation {generation}", self.path))
    }

    /// Returns the method in the given generation, or in the newest generation that has it.
    pub(super) fn newest(
        &self,
        generation: Option<Generation>,
    ) -> Result<MethodDescriptor, String> {
        if let Some(known) = self.if_known(generation)? {
            return Ok(known);
        }
        self.in_generation(Generation::V0_1)
            .or_else(|_| self.in_generation(Generation::V0_0))
            .cloned()
    }
}

/// Whether the upstream method is for sandboxes, peers and operators of the gateway only.
fn is_never_forwarded(method: &MethodDescriptor) -> bool {
    let Some(option) = method.parent_pool().get_extension_by_name(OPTION) else { return false };
    let options = method.options();
    let guard = options.get_extension(&option);
    let forward = guard.as_message().and_then(|guard| guard.get_field_by_name("forward"));
    forward.and_then(|forward| forward.as_enum_number()) == Some(FORWARD_NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(name: &str) -> Result<String, String> {
        Methods::load().find(name, false).map(|found| found.path.to_owned())
    }

    #[test]
    fn a_method_is_found_by_its_full_name_or_a_suffix() {
        for (name, path) in [
            ("shoreguard.v1.GatewayService/GetGateway", "shoreguard.v1.GatewayService/GetGateway"),
            ("/shoreguard.v1.GatewayService/GetGateway", "shoreguard.v1.GatewayService/GetGateway"),
            ("GatewayService/GetGateway", "shoreguard.v1.GatewayService/GetGateway"),
            ("ListGateways", "shoreguard.v1.GatewayService/ListGateways"),
            ("OpenShell/GetSandbox", "openshell.v1.OpenShell/GetSandbox"),
            ("GetSandboxConfig", "openshell.v1.OpenShell/GetSandboxConfig"),
        ] {
            assert_eq!(path_of(name).as_deref(), Ok(path), "{name}");
        }
    }

    #[test]
    fn an_ambiguous_name_lists_the_matching_methods() {
        let mut methods = Methods::load();
        let shapes = methods.0.remove("openshell.v1.OpenShell/GetSandbox").unwrap();
        methods.0.insert("a.v1.A/Same".to_owned(), shapes);
        let shapes = methods.0.remove("openshell.v1.OpenShell/ListSandboxes").unwrap();
        methods.0.insert("b.v1.B/Same".to_owned(), shapes);
        let refused = methods.find("Same", false).err().unwrap();
        assert_eq!(refused, "`Same` can be `a.v1.A/Same` or `b.v1.B/Same`: add the service");
    }

    #[test]
    fn a_short_name_prefers_own_methods_and_with_a_gateway_its_methods() {
        let methods = Methods::load();
        for name in ["GetSandbox", "ListSandboxes", "DeleteSandbox"] {
            let path = |proxied| methods.find(name, proxied).map(|found| found.path.to_owned());
            assert_eq!(path(false), Ok(format!("shoreguard.v1.SandboxService/{name}")));
            assert_eq!(path(true), Ok(format!("openshell.v1.OpenShell/{name}")));
        }
        // Of a name that only one API has, `proxied` changes nothing.
        assert_eq!(methods.find("Login", true).unwrap().path, "shoreguard.v1.AuthService/Login");
        let config = methods.find("GetSandboxConfig", false).unwrap();
        assert_eq!(config.path, "openshell.v1.OpenShell/GetSandboxConfig");
    }

    #[test]
    fn an_unknown_name_suggests_similar_methods() {
        let refused = path_of("getgateway").unwrap_err();
        let near = "no method `getgateway`; there is `shoreguard.v1.GatewayService/GetGateway`";
        assert!(refused.starts_with(near), "{refused}");
        assert!(path_of("Bogus").unwrap_err().contains("--list"));
        assert!(path_of("").is_err());
        assert!(path_of("Gateway").is_err(), "a part of a word matches no method");
    }

    #[test]
    fn a_method_of_one_generation_is_not_found_in_the_other() {
        let methods = Methods::load();
        let (path, _) = methods
            .0
            .iter()
            .find(|(_, shapes)| shapes.v0_0.is_some() && shapes.v0_1.is_none())
            .expect("generation 0.1 has lost methods");
        let found = methods.find(path, false).unwrap();
        assert_eq!(found.if_known(None), Ok(None));
        assert!(found.in_generation(Generation::V0_0).is_ok());
        assert!(found.newest(None).is_ok());
        assert_eq!(
            found.in_generation(Generation::V0_1).unwrap_err(),
            format!("`{path}` is not in generation 0.1")
        );
    }

    #[test]
    fn the_list_marks_streams_reserved_methods_and_single_generations() {
        let list = Methods::load().list(None);
        for line in [
            "openshell.inference.v1.Inference/SetInferenceRoute  generation 0.0 only",
            "openshell.v1.OpenShell/ConnectSupervisor  takes a stream  never forwarded",
            "openshell.v1.OpenShell/WatchSandbox  answers with a stream",
            "shoreguard.v1.GatewayService/GetGateway",
        ] {
            assert!(list.lines().any(|found| found == line), "{line}\n{list}");
        }
    }

    #[test]
    fn a_filtered_list_explains_what_it_lists() {
        let list = Methods::load().list(Some("getgateway"));
        let text = "shoreguard.v1.GatewayService/GetGateway\n    Returns one gateway by name";
        assert!(list.contains(text), "{list}");
        assert!(!list.contains("ListGateways"), "{list}");
        assert_eq!(Methods::load().list(Some("bogus")), "");
    }
}
