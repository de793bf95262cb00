//! Settings that are sound and may still not be what was meant.

use std::net::SocketAddr;

use counterfoil::{AccountField, HashingParams, TrustedProxy};
use ipnet::IpNet;
use tracing::Level;

use super::Report;
use crate::config::Config;
use crate::listen::Place;
use crate::mail_settings::MailTransport;

pub(super) fn look(config: &Config, report: &mut Report) {
    let before = report.0.len();
    if let Some(address) = reachable(&config.listen) {
        report.warning(
            "settings",
            format!("listen = {address}: whoever reaches that address may send passwords and tokens in the clear"),
            "let only a proxy with TLS reach it, or listen on 127.0.0.1 or a Unix socket",
        );
    }
    if let Some(address) = config.metrics_listen.as_ref().and_then(reachable) {
        report.warning(
            "settings",
            format!("metrics.listen = {address}: whoever reaches that address reads what is measured"),
            "let only your monitoring reach it",
        );
    }
    for net in config.http.trusted_proxies.iter().filter_map(wide) {
        report.warning(
            "settings",
            format!("trusted_proxies: {net} is wide, and each client in it chooses the address that it is known by"),
            "name the addresses of your own proxies",
        );
    }
    if config.log.level < Level::INFO {
        report.warning(
            "settings",
            format!("log.level = {}: the log does not say who logged in", config.log.level.as_str().to_lowercase()),
            "set it to info; the audit log is kept either way",
        );
    }
    if weaker(&config.authority.hashing, &HashingParams::default()) {
        report.warning(
            "settings",
            "hashing.…: passwords are hashed more cheaply than by default",
            "leave out hashing.memory and hashing.iterations",
        );
    }
    for (field, name) in [(AccountField::Staff, "staff"), (AccountField::Admin, "admin")] {
        if config.http.user_fields.contains(&field) {
            report.warning(
                "settings",
                format!(
                    "http.user_fields: {name} tells every client of a user whether stealing its token is worth while"
                ),
                "leave it out unless clients need it",
            );
        }
    }
    if let Err(failure) = config.mail.check() {
        report.failed("settings", &failure);
    }
    if config.base_url.is_some() && matches!(config.mail.transport, MailTransport::File { .. } | MailTransport::Console)
    {
        report.warning(
            "settings",
            "mail.transport: links lead to base_url, and nobody gets a mail with one",
            "name a mail server, or hand out what is in the files yourself",
        );
    }
    if report.0.len() == before {
        report.ok("settings", "sound, and nothing in them is unusual");
    }
}

/// The address, where others than this machine may reach it.
fn reachable(place: &Place) -> Option<SocketAddr> {
    match place {
        Place::Address(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
        Place::Address(_) | Place::UnixSocket(_) | Place::Systemd => None,
    }
}

/// The network, where it is more than a site has proxies in.
fn wide(proxy: &TrustedProxy) -> Option<IpNet> {
    match proxy {
        TrustedProxy::UnixSocket => None,
        TrustedProxy::Network(net) => {
            let least = match net {
                IpNet::V4(_) => 16,
                IpNet::V6(_) => 48,
            };
            (net.prefix_len() < least).then_some(*net)
        }
    }
}

/// Whether it fills less memory altogether.
fn weaker(chosen: &HashingParams, default: &HashingParams) -> bool {
    let filled = |params: &HashingParams| u64::from(params.memory_kib()) * u64::from(params.iterations());
    filled(chosen) < filled(default)
}
