//! From names to addresses, and to the places where a service is offered: as the system has it, or asked of the DNS
//! servers that are configured.
//!
//! Invariants
//! - nothing is remembered: a name is asked for again each time it is connected to, and what it leads to is judged then;
//! - where servers are configured they alone are asked, not the system's and no file of hosts;
//! - an answer that did not come is an error and never an empty answer.

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

/// How long one server has for one answer, before it or another is asked once more.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Resolves names.
#[derive(Clone)]
pub struct Names {
    /// The servers that are configured; none leaves addresses to the system.
    asked: Option<TokioResolver>,
    /// The servers of the system, where they can be read.
    system: Option<TokioResolver>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("asked", &self.asked.is_some()).finish_non_exhaustive()
    }
}

/// Where a service is offered: an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The lower, the earlier.
    pub priority: u16,
    /// Of the same priority, the higher the earlier.
    pub weight: u16,
    /// Name of the host, without the dot at its end; empty where the service is decidedly not offered.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Names {
    /// As the system has it.
    #[must_use]
    pub fn of_system() -> Self {
        let system = TokioResolver::builder_tokio().map(|mut builder| {
            forgetful(builder.options_mut());
            builder.build()
        });
        // A host without a resolver of its own may still have names in files; only services are then not found.
        Self { asked: None, system: system.ok().and_then(Result::ok) }
    }

    /// Asked of these servers; of none it is as the system has it.
    ///
    /// # Errors
    /// What stands in the way, in words for the log.
    pub fn asking(servers: &[SocketAddr]) -> Result<Self, String> {
        if servers.is_empty() {
            return Ok(Self::of_system());
        }
        let servers = servers.iter().map(|at| server(*at)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        let options = builder.options_mut();
        forgetful(options);
        options.timeout = ANSWER_TIME;
        options.use_hosts_file = ResolveHosts::Never;
        let asked = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { asked: Some(asked), system: None })
    }

    /// Every address of a name. What has none is an error.
    ///
    /// # Errors
    /// Why it has none, in words for the log.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let found: Vec<IpAddr> = match &self.asked {
            None => {
                let found = tokio::net::lookup_host((host, 0)).await;
                found.map_err(|error| error.to_string())?.map(|at| at.ip()).collect()
            }
            Some(asked) => {
                let found = asked.lookup_ip(absolute(host)?).await;
                found.map_err(|error| error.to_string())?.iter().collect()
            }
        };
        if found.is_empty() { Err("its name has no address".to_owned()) } else { Ok(found) }
    }

    /// Where a service is offered, in no order. A name without such a record is no error.
    ///
    /// # Errors
    /// Why it is not known, in words that may be shown.
    pub async fn services(&self, name: &str) -> Result<Vec<Service>, String> {
        let Some(resolver) = self.asked.as_ref().or(self.system.as_ref()) else {
            return Err("the resolver of this host cannot be read".to_owned());
        };
        let answer = match resolver.srv_lookup(absolute(name)?).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let services = answer.answers().iter().filter_map(|record| {
            let RData::SRV(srv) = &record.data else { return None };
            let host = srv.target.to_ascii().trim_end_matches('.').to_owned();
            Some(Service { priority: srv.priority, weight: srv.weight, host, port: srv.port })
        });
        Ok(services.collect())
    }
}

/// A record that may be used once and not again must not be used again (a TTL of 0 says so), and all others are asked
/// for as seldom as connections are made.
fn forgetful(options: &mut ResolverOpts) {
    options.cache_size = 0;
}

fn server(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    // One that says that there is no such name is believed.
    NameServerConfig::new(at.ip(), true, connections.to_vec())
}

/// A name that is complete: no domain of ours is tried behind it.
fn absolute(name: &str) -> Result<Name, String> {
    let mut name = Name::from_utf8(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

fn is_absent(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}
