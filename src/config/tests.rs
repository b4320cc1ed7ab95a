use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Sources {
    let env: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("honeycast.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Sources { file: Some(path), ..Sources::default() })
}

fn problems(sources: &Sources) -> Vec<String> {
    load(sources).unwrap_err().0.iter().map(ToString::to_string).collect()
}

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/honeycast.toml"))
}

#[test]
fn the_shipped_file_holds_every_key_with_its_default() {
    let loaded = load(&Sources { file: Some(shipped().to_owned()), ..Sources::default() }).unwrap();
    assert_eq!(loaded.config, Config::default());
    for key in keys::KEYS {
        assert_ne!(loaded.origin(key.path), &Origin::Default, "{} is missing in the file", key.path);
    }
}

#[test]
fn the_shipped_file_and_the_manual_name_every_environment_variable() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    for key in keys::KEYS {
        assert!(manual.contains(&format!("`{}`", key.path)), "{} is missing in docs/configuration.md", key.path);
        for name in key.env {
            assert!(manual.contains(&format!("`{name}`")), "{name} is missing in docs/configuration.md");
        }
    }
}

#[test]
fn what_is_printed_loads_again() {
    let first = load(&env(&[("API_SERVER_PORT", "81"), ("KEEPALIVE_INTERVAL", "2.5")])).unwrap();
    let (_folder, sources) = file(&first.to_toml());
    assert_eq!(load(&sources).unwrap().config, first.config);
}

#[test]
fn later_layers_win() {
    let (folder, mut sources) = file("[api]\nport = 1\n[signaling]\nport = 2\n[dashboard]\nport = 3\n");
    let dotenv = folder.path().join(".env");
    std::fs::write(&dotenv, "SIGNALING_SERVER_PORT=20\nDASHBOARD_SERVER_PORT=30\nVIEWER_UDP_PORT=40\n").unwrap();
    sources.dotenv = Some(dotenv);
    sources.env = env(&[("DASHBOARD_SERVER_PORT", "300"), ("VIEWER_UDP_PORT", "400")]).env;
    sources.flags = vec![("viewers.udp_port".into(), "4000".into(), "--viewer-udp-port")];
    let loaded = load(&sources).unwrap();
    let c = &loaded.config;
    assert_eq!((c.api.port, c.signaling.port, c.dashboard.port, c.viewers.udp_port), (1, 20, 300, 4_000));
    assert_eq!(loaded.origin("viewers.udp_port").to_string(), "flag --viewer-udp-port");
}

#[test]
fn all_mistakes_are_reported_at_once_with_key_and_origin() {
    let (_folder, mut sources) =
        file("[api]\nprot = 1\nport = \"x\"\n[nonsense]\na = 1\n[media]\nmin_bandwidth = 9000\n");
    sources.env = env(&[("KEEPALIVE_INTERVAL", "soon"), ("TLS_CERT_PATH", "/nowhere/cert.pem")]).env;
    let all = problems(&sources).join("\n");
    for expected in [
        "api.prot",
        "did you mean api.port?",
        "api.port",
        "expected a number",
        "nonsense",
        "streams.keepalive_interval (environment, KEEPALIVE_INTERVAL)",
        "media.min_bandwidth",
        "needs tls.key",
        "/nowhere/cert.pem",
    ] {
        assert!(all.contains(expected), "{expected} is missing in:\n{all}");
    }
}

#[test]
fn two_services_on_one_port_are_refused_and_port_zero_is_not() {
    let all = problems(&env(&[("API_SERVER_PORT", "5000"), ("VIEWER_UDP_PORT", "5006")]));
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("api.port") && all[1].contains("media.video_port"), "{all:?}");
    let zero = ["API_SERVER_PORT", "SIGNALING_SERVER_PORT", "CAMERA_RTP_VIDEO_PORT", "CAMERA_RTCP_PORT"];
    load(&env(&zero.map(|name| (name, "0")))).unwrap();
    // One to connect to has to be known.
    let all = problems(&env(&[("EMQX_BROKER_PORT", "0")]));
    assert!(all.len() == 1 && all[0].contains("mqtt.port"), "{all:?}");
    load(&env(&[("EMQX_BROKER_PORT", "0"), ("MQTT_EMBEDDED", "true")])).unwrap();
}

#[test]
fn a_key_with_a_passphrase_is_refused_in_words() {
    let (folder, _) = file("");
    let key = folder.path().join("client.key");
    std::fs::write(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let all = problems(&env(&[("EMQX_CLIENT_KEY", key.to_str().unwrap())])).join("\n");
    assert!(all.contains("client.key: holds no unencrypted PEM private key"), "{all}");
}

#[test]
fn a_port_range_holds_a_triple_and_no_port_of_another_part() {
    let range = |text: &str| env(&[("MEDIA_PORT_RANGE", text)]);
    assert_eq!(load(&range("5010-5050")).unwrap().config.media.port_range, Some(PortRange { first: 5010, last: 5050 }));
    for (text, wrong) in [
        ("5011-5013", "an even port and the two above"),
        ("65535-65535", "an even port and the two above"),
        ("5000-5010", "5006"),
        ("8180-8200", "viewers.udp_port"),
        ("5050-5010", "expected first-last"),
    ] {
        let found = problems(&range(text));
        assert!(found.len() == 1 && found[0].contains(wrong), "{text}: {found:?}");
    }
}

#[test]
fn the_dotenv_file_may_name_the_configuration_file() {
    let (folder, sources) = file("[api]\nport = 81\n");
    let dotenv = folder.path().join(".env");
    std::fs::write(&dotenv, format!("HONEYCAST_CONFIG={}\n", sources.file.unwrap().display())).unwrap();
    let loaded = load(&Sources { dotenv: Some(dotenv), ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.api.port, 81);
}

#[test]
fn a_turn_server_needs_its_user_and_urls_have_no_slashes() {
    let all = problems(&env(&[("TURN_SERVER_URL", "turn:x"), ("STUN_SERVER", "https://x")]));
    assert_eq!(all.len(), 2, "{all:?}");
    load(&env(&[("TURN_SERVER_URL", "turn:x"), ("TURN_SERVER_USERNAME", "u"), ("TURN_SERVER_PASSWORD", "p")])).unwrap();
}

#[test]
fn topics_that_no_camera_could_hear_are_wrong() {
    let all = problems(&env(&[
        ("MQTT_TOPIC_PLAY", "x/{camera_id}y"),
        ("MQTT_TOPIC_STOP", "x/+/{camera_id}"),
        ("MQTT_TOPIC_STATUS", "prod/status"),
        ("MQTT_TOPIC_SERVICE", "prod/#"),
    ]));
    let keys: Vec<_> = all.iter().map(|problem| problem.split(' ').next().unwrap()).collect();
    assert_eq!(keys, ["mqtt.topics.play", "mqtt.topics.stop", "mqtt.topics.status", "mqtt.topics.service"], "{all:?}");
}

#[test]
fn aliases_work_and_the_preferred_name_wins() {
    let alias = load(&env(&[("EMQX_LIVESTREAM_CLIENT_ID", "old")])).unwrap();
    assert_eq!(alias.config.mqtt.client_id, "old");
    let both = load(&env(&[("EMQX_LIVESTREAM_CLIENT_ID", "old"), ("EMQX_CLIENT_ID", "new")])).unwrap();
    assert_eq!(both.config.mqtt.client_id, "new");
}

#[test]
fn tls_to_the_broker_follows_port_and_ca_unless_said() {
    let uses = |pairs: &[(&str, &str)]| load(&env(pairs)).unwrap().config.mqtt.uses_tls();
    assert!(uses(&[]));
    assert!(!uses(&[("EMQX_BROKER_PORT", "1883")]));
    assert!(uses(&[("EMQX_BROKER_PORT", "1883"), ("EMQX_USE_TLS", "yes")]));
    assert!(!uses(&[("EMQX_USE_TLS", "0")]));
}

#[test]
fn empty_variables_count_as_unset_and_kurento_is_ignored_with_a_notice() {
    let loaded = load(&env(&[("EXTERNAL_IP", ""), ("API_SERVER_PORT", ""), ("KURENTO_WS_URL", "ws://x")])).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.notices[0].contains("KURENTO_WS_URL"));
}

#[test]
fn the_camera_store_is_named_or_in_the_state_directory_or_nowhere() {
    let store = |pairs: &[(&str, &str)]| load(&env(pairs)).unwrap().config.cameras.store;
    let file = |path: &str| StorePlace::File(path.into());
    assert_eq!(store(&[]), StorePlace::Unset);
    let state = ("STATE_DIRECTORY", "/var/lib/honeycast:/var/lib/other");
    assert_eq!(store(&[state]), file("/var/lib/honeycast/honeycast.redb"));
    assert_eq!(store(&[state, ("CAMERA_STORE", "/data/cameras.redb")]), file("/data/cameras.redb"));
    assert_eq!(store(&[state, ("CAMERA_STORE", "memory")]), StorePlace::Memory);
    assert_eq!(store(&[("STATE_DIRECTORY", "")]), StorePlace::Unset);
    // The shipped file names no place, and must not keep the state directory from being used.
    let shipped = Sources { file: Some(shipped().to_owned()), ..env(&[state]) };
    let loaded = load(&shipped).unwrap();
    assert_eq!(loaded.config.cameras.store, file("/var/lib/honeycast/honeycast.redb"));
    assert_eq!(loaded.origin("cameras.store").to_string(), "environment, STATE_DIRECTORY");
    for wrong in ["0", "100001"] {
        assert!(problems(&env(&[("MAX_KNOWN_CAMERAS", wrong)]))[0].contains("must be 1 to 100000"));
    }
}

#[test]
fn access_control_is_never_on_with_nobody_to_let_in_or_with_a_weak_secret() {
    let on = ("AUTH_ENABLED", "true");
    assert!(problems(&env(&[on]))[0].contains("nobody could do anything"));
    assert!(problems(&env(&[on, ("JWT_SECRET_KEY", "short")]))[0].contains("at least 32 bytes"));
    load(&env(&[("JWT_SECRET_KEY", "short")])).unwrap();
    load(&env(&[on, ("JWT_SECRET_KEY", "0123456789abcdef0123456789abcdef")])).unwrap();
    let hash = crate::access::keys::hash("x");
    let keys = format!("wall:view:*:{hash},gate:control:56C1*+AB*:{hash}:2027-01-31T00:00:00Z");
    assert_eq!(load(&env(&[on, ("AUTH_API_KEYS", &keys)])).unwrap().config.auth.api_keys.len(), 2);
    let wrong = problems(&env(&[("AUTH_API_KEYS", "wall:hck_secret")]));
    assert!(wrong[0].contains("auth.api_keys") && !wrong[0].contains("hck_secret"), "{wrong:?}");
    let (folder, _) = file("");
    let set = folder.path().join("set.json");
    for (text, why) in [(None, "No such file"), (Some("{}"), "is no key set"), (Some(r#"{"keys":[]}"#), "holds no key")]
    {
        if let Some(text) = text {
            std::fs::write(&set, text).unwrap();
        }
        let wrong = problems(&env(&[on, ("JWT_KEY_SET_FILE", set.to_str().unwrap())]));
        assert!(wrong.len() == 1 && wrong[0].contains(why) && wrong[0].contains("set.json"), "{wrong:?}");
    }
}

#[test]
fn addresses_and_names_that_nobody_could_be_told_are_wrong() {
    for (name, value) in [
        ("EXTERNAL_IP", "0.0.0.0"),
        ("EXTERNAL_IP", "::"),
        ("EXTERNAL_IP", "255.255.255.255"),
        ("LOCAL_IP", "224.0.0.1"),
        ("EMQX_BROKER_HOST", "mqtts://broker.example"),
        ("EMQX_BROKER_HOST", "broker.example:8883"),
        ("PUBLIC_API_URL", "cam.example"),
        ("PUBLIC_API_URL", "https://"),
        ("PUBLIC_SIGNALING_URL", "https://cam.example/ws"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("LIMIT_CONNECTIONS", "0"),
    ] {
        assert_eq!(problems(&env(&[(name, value)])).len(), 1, "{name}={value}");
    }
    load(&env(&[
        ("EXTERNAL_IP", "203.0.113.7"),
        ("EMQX_BROKER_HOST", "fd00::1"),
        ("PUBLIC_API_URL", "https://cam.example/api"),
        ("PUBLIC_SIGNALING_URL", "wss://cam.example/signaling"),
        ("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
    ]))
    .unwrap();
}

#[test]
fn a_camera_store_that_cannot_be_used_is_found_without_touching_it() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |path: &Path| {
        let loaded = load(&env(&[("CAMERA_STORE", path.to_str().unwrap())])).unwrap();
        store_problem(&loaded).map(|problem| problem.to_string())
    };
    let new = folder.path().join("new.redb");
    assert_eq!(problem(&new), None);
    assert!(!new.exists());
    let junk = folder.path().join("junk.redb");
    std::fs::write(&junk, "x".repeat(1_000)).unwrap();
    for (path, why) in [
        (junk.as_path(), "damaged"),
        (&folder.path().join("missing/new.redb"), "its folder: No such file"),
        (&junk.join("new.redb"), "Not a directory"),
        (folder.path(), "directory"),
    ] {
        let found = problem(path).unwrap();
        assert!(found.contains("cameras.store (environment, CAMERA_STORE)") && found.contains(why), "{found}");
    }
    crate::control::CameraStore::open(&new).unwrap();
    assert_eq!(problem(&new), None);
    assert_eq!(store_problem(&load(&env(&[])).unwrap()), None);
}

#[test]
fn secrets_are_never_shown() {
    let loaded = load(&env(&[
        ("TURN_SERVER_PASSWORD", "hunter2"),
        ("EMQX_PASSWORD", "hunter2"),
        ("JWT_SECRET_KEY", "hunter2-0123456789abcdef0123456789abcdef"),
    ]))
    .unwrap();
    assert!(!loaded.to_toml().contains("hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(loaded.config.viewers.turn_password.reveal(), Some("hunter2"));
}

#[test]
fn local_networks_are_cidrs_or_prefixes_and_private_by_default() {
    let is = |list: &str, ip: &str| list.parse::<LocalNetworks>().unwrap().contains(ip.parse().unwrap());
    for ip in ["192.168.3.4", "10.1.1.1", "172.16.0.1", "127.0.0.1", "169.254.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
    {
        assert!(is("", ip), "{ip}");
    }
    assert!(!is("", "8.8.8.8") && !is("", "2001:db8::1"));
    assert!(is("192.168.1.", "192.168.1.77") && !is("192.168.1.", "192.168.2.77"));
    assert!(is("10.0.0.0/8, 192.168.1", "10.200.1.1") && is("10.0.0.0/8, 192.168.1", "192.168.1.1"));
    assert!(is("0.0.0.0/0", "8.8.8.8") && is("8.8.8.8", "8.8.8.8") && !is("8.8.8.8", "8.8.8.9"));
    for wrong in ["nonsense", "10.0.0.0/33", "300.1.", "1.2.3.4.5"] {
        assert!(wrong.parse::<LocalNetworks>().is_err(), "{wrong}");
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let missing = Sources { file: Some("/nowhere/honeycast.toml".into()), ..Sources::default() };
    assert!(problems(&missing)[0].contains("/nowhere/honeycast.toml"));
    let (_folder, broken) = file("[api\n");
    assert!(problems(&broken)[0].contains("is not TOML"));
}

#[test]
fn the_remb_policy_is_one_of_four_words() {
    let policy = |word| load(&env(&[("REMB_POLICY", word)])).unwrap().config.media.remb_policy;
    let all = [RembPolicy::Min, RembPolicy::Percentile, RembPolicy::Floor, RembPolicy::IgnoreSlow];
    assert_eq!(["Min", "percentile", "floor", "ignore-slow"].map(policy), all);
    let wrong = problems(&env(&[("REMB_POLICY", "best-viewer")]));
    assert!(wrong.len() == 1 && wrong[0].contains("floor or ignore-slow"), "{wrong:?}");
}
