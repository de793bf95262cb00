//! The file with the settings.

use counterfoil_core::password::HashingParams;
use counterfoil_http::device::TrustedProxy;
use counterfoil_server::Config;
use ipnet::IpNet;

/// The input is the file.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::of_file("counterfoil.toml", text) {
        Ok(config) => is_sound(&config),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

/// What no file may bring about, whatever it says.
fn is_sound(config: &Config) {
    for proxy in &config.http.trusted_proxies {
        let TrustedProxy::Network(proxy) = proxy else { continue };
        let widest = match proxy {
            IpNet::V4(_) => 8,
            IpNet::V6(_) => 7,
        };
        assert!(proxy.prefix_len() >= widest, "{proxy} is nearly everybody");
    }
    let hashing = config.authority.hashing;
    let again = HashingParams::new(hashing.memory_kib(), hashing.iterations(), hashing.parallelism());
    assert_eq!(again, Ok(hashing), "weaker than the floor");
    let realm = config.http.realm.as_bytes();
    assert!(realm.iter().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte)), "{realm:?}");
    for time in [config.http.request_timeout, config.http.body_timeout, config.write_timeout] {
        assert!(!time.is_zero(), "a time of nothing");
    }
    assert!(config.http.body_timeout < config.http.request_timeout);
    if let Some(url) = &config.base_url {
        assert!(url.starts_with("https://") || url.starts_with("http://"), "{url}");
        assert!(!url.contains(['#', '?', '*', '\n', ' ']), "{url}");
    }
}
