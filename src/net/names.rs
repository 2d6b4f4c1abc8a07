//! Resolves names to addresses and SRV records, with the system's resolver or the configured DNS servers.
//!
//! Invariants
//! - nothing is cached: a name is resolved again for each connection, and its addresses are checked then;
//! - configured servers are used exclusively, without the system's servers and without the hosts file;
//! - a missing response is an error and never an empty result.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};

/// How long a server may take for one response before the query is repeated, there or on another server.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Resolves names.
#[derive(Clone)]
pub struct Resolver {
    /// Resolver with the configured servers; if `None`, the system resolves addresses.
    configured: Option<TokioResolver>,
    /// Resolver with the system's servers; `None` if they cannot be read.
    system: Option<TokioResolver>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("asked", &self.configured.is_some()).finish_non_exhaustive()
    }
}

/// A host that offers a service: an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower values come first.
    pub priority: u16,
    /// Among equal priorities, higher values come first.
    pub weight: u16,
    /// Host name without the trailing dot; empty if the service is explicitly not offered.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Resolver {
    /// Creates a resolver that works like the system's.
    #[must_use]
    pub fn system() -> Self {
        let system = TokioResolver::builder_tokio().map(|mut builder| {
            disable_cache(builder.options_mut());
            builder.build()
        });
        // A host without a DNS resolver may still have names in files; only SRV lookups fail then.
        Self { configured: None, system: system.ok().and_then(Result::ok) }
    }

    /// Creates a resolver that uses these servers, or works like the system's if there are none.
    ///
    /// # Errors
    /// The cause, for the log.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, String> {
        if servers.is_empty() {
            return Ok(Self::system());
        }
        let servers = servers.iter().map(|at| name_server(*at)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        let options = builder.options_mut();
        disable_cache(options);
        options.timeout = ANSWER_TIME;
        options.use_hosts_file = ResolveHosts::Never;
        let configured = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { configured: Some(configured), system: None })
    }

    /// Returns all addresses of a name.
    ///
    /// # Errors
    /// The cause, for the log. A name without an address is an error, too.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let found: Vec<IpAddr> = match &self.configured {
            None => {
                let found = tokio::net::lookup_host((host, 0)).await;
                found.map_err(|error| error.to_string())?.map(|at| at.ip()).collect()
            }
            Some(configured) => {
                let found = configured.lookup_ip(absolute_name(host)?).await;
                found.map_err(|error| error.to_string())?.iter().collect()
            }
        };
        if found.is_empty() { Err("its name has no address".to_owned()) } else { Ok(found) }
    }

    /// Returns the SRV records of a name, in no particular order. A name without records is not an error.
    ///
    /// # Errors
    /// The cause, in a form that may be displayed.
    pub async fn srv_records(&self, name: &str) -> Result<Vec<SrvRecord>, String> {
        let Some(resolver) = self.configured.as_ref().or(self.system.as_ref()) else {
            return Err("the resolver of this host cannot be read".to_owned());
        };
        let answer = match resolver.srv_lookup(absolute_name(name)?).await {
            Ok(answer) => answer,
            Err(error) if is_no_record(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let services = answer.answers().iter().filter_map(|record| {
            let RData::SRV(srv) = &record.data else { return None };
            let host = srv.target.to_ascii().trim_end_matches('.').to_owned();
            Some(SrvRecord { priority: srv.priority, weight: srv.weight, host, port: srv.port })
        });
        Ok(services.collect())
    }
}

/// Disables the cache: a record with a TTL of 0 must not be reused, and others are queried only when connecting.
fn disable_cache(options: &mut ResolverOpts) {
    options.cache_size = 0;
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    // A negative response of one server is final.
    NameServerConfig::new(at.ip(), true, connections.to_vec())
}

/// Returns an absolute name, so that no search domain is appended.
fn absolute_name(name: &str) -> Result<Name, String> {
    let mut name = Name::from_utf8(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

fn is_no_record(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}
