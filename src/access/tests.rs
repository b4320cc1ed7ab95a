use std::time::Instant;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::*;
use crate::base::CameraId;

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const SECRET: &str = "a secret that is long enough for HS256, 42";
/// The time of all tests: 2027-01-15.
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn camera(text: &str) -> CameraId {
    text.parse().unwrap()
}

/// A token whose three parts are what they are.
fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature))
}

fn hs256(secret: &str, claims: &Value) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, |text| ring::hmac::sign(&key, text).as_ref().to_vec())
}

fn claims() -> Value {
    json!({"sub": "wall", "role": "view", "exp": NOW + 60})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn by_secret() -> Access {
    Access::new(Vec::new(), &TokenSettings { secret: Some(SECRET.to_owned()), ..TokenSettings::default() }).unwrap()
}

fn ask(access: &Access, text: &str) -> Result<Grant, Denied> {
    access.grant(Some(Credential::Bearer(text)), at(NOW))
}

#[test]
fn without_access_control_everybody_may_do_everything() {
    let grant = Access::off().grant(None, at(NOW)).unwrap();
    assert_eq!(grant.role(), Role::Admin);
    assert!(grant.sees_all() && grant.sees(&camera(CAMERA)));
    assert_eq!(Access::off().session(&grant, at(NOW)), None);
}

#[test]
fn a_token_grants_what_its_claims_say_until_it_ends() {
    let access = by_secret();
    let grant = ask(&access, &hs256(SECRET, &claims())).unwrap();
    assert_eq!((grant.name(), grant.role(), grant.until()), ("wall", Role::View, Some(at(NOW + 60))));
    assert!(grant.sees_all());
    let scoped = json!({"role": "control", "exp": NOW + 60, "cameras": [CAMERA, "AB*"]});
    let grant = ask(&access, &hs256(SECRET, &scoped)).unwrap();
    assert!(grant.sees(&camera(CAMERA)) && grant.sees(&camera(&CAMERA.replace("56", "AB"))));
    assert!(!grant.sees(&camera(&CAMERA.replace("56", "66"))) && !grant.sees_all());
    let fractions = json!({"role": "view", "exp": NOW as f64 + 0.5, "nbf": NOW});
    ask(&access, &hs256(SECRET, &fractions)).unwrap();
}

#[test]
fn a_token_that_is_over_early_or_not_ours_is_refused_with_the_reason() {
    let access = by_secret();
    let good = hs256(SECRET, &claims());
    let body = good.rsplit_once('.').unwrap().0;
    let none = |alg: &str| signed(&json!({"alg": alg, "typ": "JWT"}), &claims(), |_| Vec::new());
    let critical = signed(&json!({"alg": "HS256", "crit": ["x"], "x": 1}), &claims(), |text| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        ring::hmac::sign(&key, text).as_ref().to_vec()
    });
    let mut missing = claims();
    missing.as_object_mut().unwrap().remove("exp");
    let mut roleless = claims();
    roleless.as_object_mut().unwrap().remove("role");
    let claim = |text: &str| Denied::Claim(text.to_owned());
    for (token, denied) in [
        (hs256(SECRET, &with("exp", json!(NOW))), Denied::Expired),
        (hs256(SECRET, &with("exp", json!(0))), Denied::Expired),
        (hs256(SECRET, &with("nbf", json!(NOW + 100))), Denied::NotYet),
        (hs256("another secret, as long as the other one", &claims()), Denied::Signature),
        (format!("{body}."), Denied::Signature),
        (format!("{body}.AAAA"), Denied::Signature),
        (none("none"), Denied::Algorithm),
        (none("None"), Denied::Algorithm),
        (none("HS512"), Denied::Algorithm),
        (none("RS256"), Denied::Algorithm),
        (critical, Denied::Malformed("it has critical extensions")),
        (hs256(SECRET, &missing), claim("exp is missing")),
        (hs256(SECRET, &with("exp", json!("1900000000"))), claim("exp must be a number of seconds")),
        (hs256(SECRET, &with("exp", json!(-1))), claim("exp must be a number of seconds")),
        (hs256(SECRET, &with("exp", json!(1e300))), claim("exp must be a number of seconds")),
        (hs256(SECRET, &with("nbf", json!([]))), claim("nbf must be a number of seconds")),
        (hs256(SECRET, &roleless), claim("role is missing")),
        (hs256(SECRET, &with("role", json!("root"))), claim("role must be view, control or admin")),
        (hs256(SECRET, &with("role", json!(3))), claim("role must be view, control or admin")),
        (hs256(SECRET, &with("cameras", json!(7))), claim("cameras must be a text or a list of texts")),
        (hs256(SECRET, &with("aud", json!("another service"))), claim("aud is another")),
        ("..".to_owned(), Denied::Malformed("it holds no JSON")),
        ("a.b.c".to_owned(), Denied::Malformed("it is not Base64")),
    ] {
        assert_eq!(ask(&access, &token), Err(denied), "{token}");
    }
    for wrong in [json!([]), json!(""), json!(["56C1"]), json!(["+"]), json!("56c1*")] {
        let refused = ask(&access, &hs256(SECRET, &with("cameras", wrong))).unwrap_err();
        assert!(refused.to_string().starts_with("The token's claim cameras must"), "{refused}");
    }
    assert_eq!(access.grant(None, at(NOW)), Err(Denied::Missing));
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_set() {
    let settings = TokenSettings {
        secret: Some(SECRET.to_owned()),
        issuer: Some("https://id.example".to_owned()),
        audience: Some("honeycast".to_owned()),
        ..TokenSettings::default()
    };
    let access = Access::new(Vec::new(), &settings).unwrap();
    let token = |iss: &str, aud: Value| {
        let mut claims = with("aud", aud);
        claims["iss"] = json!(iss);
        hs256(SECRET, &claims)
    };
    ask(&access, &token("https://id.example", json!("honeycast"))).unwrap();
    ask(&access, &token("https://id.example", json!(["x", "honeycast"]))).unwrap();
    assert_eq!(
        ask(&access, &token("https://evil.example", json!("honeycast"))),
        Err(Denied::Claim("iss is another".into()))
    );
    assert_eq!(ask(&access, &token("https://id.example", json!("x"))), Err(Denied::Claim("aud is another".into())));
    let bare = ask(&access, &hs256(SECRET, &claims())).unwrap_err().to_string();
    assert!(bare.ends_with("is missing"), "{bare}");
}

/// A key set with an RSA and an EC key, and tokens signed with them.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let rsa = RsaKeyPair::from_pkcs8(include_bytes!("../../tests/data/token-test-key.der")).unwrap();
        Self { rsa, ec }
    }

    fn key_set(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa: RsaPublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        json!({"keys": [
            {"kty": "oct", "kid": "shared", "k": base64url(b"not to be used for anything, ever!")},
            {"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256",
             "n": base64url(&rsa.n),
             "e": base64url(&rsa.e)},
            {"kty": "EC", "kid": "e", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..])},
            {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        ]})
    }

    fn rs256(&self, header: &Value) -> String {
        signed(header, &claims(), |text| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        })
    }

    fn es256(&self, header: &Value) -> String {
        signed(header, &claims(), |text| self.ec.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec())
    }

    fn access(&self) -> Access {
        let settings = TokenSettings { key_set: Some(self.key_set().to_string()), ..TokenSettings::default() };
        Access::new(Vec::new(), &settings).unwrap()
    }
}

#[test]
fn a_key_set_checks_rs256_and_es256_by_key_id_or_without() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let access = issuer.access();
    for token in [
        issuer.rs256(&json!({"alg": "RS256", "kid": "r"})),
        issuer.rs256(&json!({"alg": "RS256"})),
        issuer.es256(&json!({"alg": "ES256", "kid": "e"})),
        issuer.es256(&json!({"alg": "ES256"})),
    ] {
        assert_eq!(ask(&access, &token).unwrap().role(), Role::View);
    }
    for (token, denied) in [
        (stranger.es256(&json!({"alg": "ES256", "kid": "e"})), Denied::Signature),
        (issuer.es256(&json!({"alg": "ES256", "kid": "r"})), Denied::Signature),
        (issuer.rs256(&json!({"alg": "RS256", "kid": "unknown"})), Denied::Signature),
        (issuer.rs256(&json!({"alg": "ES256"})), Denied::Signature),
        (issuer.rs256(&json!({"alg": "RS512"})), Denied::Algorithm),
    ] {
        assert_eq!(ask(&access, &token), Err(denied), "{token}");
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let issuer = Issuer::new();
    let (public, set) = (issuer.ec.public_key().as_ref().to_vec(), issuer.key_set());
    for secret in [public, b"not to be used for anything, ever!".to_vec(), set.to_string().into_bytes()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let token = signed(&json!({"alg": "HS256"}), &claims(), |text| ring::hmac::sign(&key, text).as_ref().to_vec());
        assert_eq!(ask(&issuer.access(), &token), Err(Denied::Algorithm));
    }
}

#[test]
fn a_key_set_that_holds_nothing_usable_is_refused() {
    for wrong in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        let settings = TokenSettings { key_set: Some(wrong.to_owned()), ..TokenSettings::default() };
        assert!(Access::new(Vec::new(), &settings).is_err(), "{wrong}");
    }
}

#[test]
fn a_key_grants_what_the_configuration_says_of_its_hash() {
    let (wall, gate) = (keys::create(), keys::create());
    assert!(wall.starts_with("hck_") && wall.len() >= keys::MIN_LENGTH && wall != gate);
    let entry = |text: String| text.parse::<ApiKey>().unwrap();
    let configured = vec![
        entry(format!("wall:view:*:{}", keys::hash(&wall))),
        entry(format!("gate:control:{CAMERA}+AB*:{}:2027-01-15T08:00:01Z", keys::hash(&gate).to_uppercase())),
    ];
    let access = Access::new(configured, &TokenSettings::default()).unwrap();
    assert_eq!(ask(&access, &wall).unwrap().name(), "wall");
    let grant = ask(&access, &gate).unwrap();
    assert_eq!((grant.role(), grant.until()), (Role::Control, Some(at(NOW + 1))));
    assert!(grant.sees(&camera(CAMERA)) && !grant.sees_all());
    assert_eq!(access.grant(Some(Credential::Bearer(&gate)), at(NOW + 1)), Err(Denied::Expired));
    for wrong in ["", "hck_", &wall[1..], &keys::hash(&wall)] {
        assert_eq!(ask(&access, wrong), Err(Denied::UnknownKey), "{wrong}");
    }
    assert!(!format!("{access:?}").contains("hck"), "{access:?}");
}

#[test]
fn an_entry_that_describes_no_key_is_refused_without_repeating_it() {
    let hash = keys::hash("x");
    for (entry, why) in [
        ("hck_secretsecret".to_owned(), "role is missing"),
        (format!(":view:*:{hash}"), "name must have"),
        (format!("x:root:*:{hash}"), "role must be"),
        (format!("x:view::{hash}"), "cameras must be"),
        (format!("x:view:56C1:{hash}"), "cameras must be"),
        ("x:view:*:hck_secretsecret".to_owned(), "64 hex digits"),
        (format!("x:view:*:{hash}:tomorrow"), "expiry must be"),
    ] {
        let error = entry.parse::<ApiKey>().unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("secretsecret"), "{error}");
    }
}

#[test]
fn a_session_stands_for_its_grant_and_for_nobody_else() {
    let access = by_secret();
    let grant = ask(&access, &hs256(SECRET, &with("cameras", json!("AB*")))).unwrap();
    let (text, lifetime) = access.session(&grant, at(NOW)).unwrap();
    assert_eq!(lifetime, Duration::from_secs(60), "no longer than what it was made with");
    assert_eq!(access.grant(Some(Credential::Session(&text)), at(NOW + 59)).unwrap(), grant);
    assert_eq!(access.grant(Some(Credential::Session(&text)), at(NOW + 60)), Err(Denied::Session));
    // Neither does a cookie stand for a token, nor a token for a cookie, nor another run's cookie for this one's.
    assert_eq!(ask(&access, &text), Err(Denied::Signature));
    let token = hs256(SECRET, &claims());
    assert_eq!(access.grant(Some(Credential::Session(&token)), at(NOW)), Err(Denied::Session));
    assert_eq!(by_secret().grant(Some(Credential::Session(&text)), at(NOW)), Err(Denied::Session));
    let endless = Grant::new("x", Role::Admin, CameraScope::all(), None);
    assert_eq!(access.session(&endless, at(NOW)).unwrap().1, SESSION);
}

#[tokio::test(start_paused = true)]
async fn what_rests_on_a_key_of_a_set_ends_when_that_key_goes_and_not_when_another_comes() {
    let (first, second) = (Issuer::new(), Issuer::new());
    let keys = |of: &[&Issuer]| -> Vec<Value> { of.iter().map(|issuer| issuer.key_set()["keys"][2].clone()).collect() };
    let set = |of: &[&Issuer]| TokenSettings {
        secret: Some(SECRET.to_owned()),
        key_set: Some(json!({ "keys": keys(of) }).to_string()),
        ..TokenSettings::default()
    };
    let access = Access::new(Vec::new(), &set(&[&first])).unwrap();
    let by_key = ask(&access, &first.es256(&json!({"alg": "ES256"}))).unwrap();
    let by_secret = ask(&access, &hs256(SECRET, &claims())).unwrap();
    let ended = async |grant: &Grant| {
        let end = tokio::time::timeout(Duration::from_secs(1), grant.ended(at(NOW)));
        end.await.ok()
    };
    let replaced = |added, withdrawn| Ok(Replaced { added, withdrawn });
    assert_eq!(access.replace(Vec::new(), &set(&[&first])), replaced(0, 0));
    assert_eq!(access.replace(Vec::new(), &set(&[&second, &first])), replaced(1, 0));
    assert_eq!(ended(&by_key).await, None);
    assert_eq!(access.replace(Vec::new(), &set(&[&second])), replaced(0, 1));
    assert_eq!((ended(&by_key).await, ended(&by_secret).await), (Some(AccessEnd::Withdrawn), None));
    // Tokens for others are those of nobody here, whoever signed them.
    let issued = TokenSettings { issuer: Some("https://id.example".to_owned()), ..set(&[&second]) };
    assert_eq!(access.replace(Vec::new(), &issued), replaced(2, 2));
    assert_eq!(ended(&by_secret).await, Some(AccessEnd::Withdrawn));
    let nonsense = TokenSettings { key_set: Some("{}".to_owned()), ..TokenSettings::default() };
    assert!(access.replace(Vec::new(), &nonsense).is_err());
    assert_eq!(access.replace(Vec::new(), &issued), replaced(0, 0), "nothing was changed");
    assert_eq!(Access::off().replace(Vec::new(), &issued), replaced(0, 0));

    let short = Grant::new("x", Role::View, CameraScope::all(), Some(at(NOW + 60)));
    let begun = tokio::time::Instant::now();
    assert_eq!(short.ended(at(NOW)).await, AccessEnd::Expired);
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[test]
fn a_token_made_here_is_taken_here() {
    let grant = Grant::new("x", Role::Control, CameraScope::new(["AB*"]).unwrap(), Some(at(NOW + 10)));
    let token = create_token(SECRET, &grant, at(NOW + 10)).unwrap();
    assert_eq!(ask(&by_secret(), &token).unwrap(), grant);
    assert!(create_token("short", &grant, at(NOW)).unwrap_err().contains("32 bytes"));
}

#[test]
fn a_credential_is_found_in_header_query_or_cookie() {
    use credential::find;
    let cookie = ["a=b; honeycast_session=S; c=d"];
    let none: [&str; 0] = [];
    assert_eq!(find(Some("Bearer K"), Some("token=Q"), cookie, true), Some(Credential::Bearer("K")));
    assert_eq!(find(Some("bearer  K "), None, none, true), Some(Credential::Bearer("K")));
    assert_eq!(find(Some("Basic K"), Some("x=1&token=Q&y=2"), cookie, true), Some(Credential::Bearer("Q")));
    assert_eq!(find(None, Some("mytoken=Q&token="), cookie, true), Some(Credential::Session("S")));
    assert_eq!(find(None, None, cookie, false), None, "a page of another site made the browser send it");
    assert_eq!(find(None, Some("token=Q"), cookie, false), Some(Credential::Bearer("Q")));
    assert_eq!(find(None, None, ["xhoneycast_session=S"], true), None);
    let long = "x".repeat(credential::MAX_CREDENTIAL + 1);
    assert_eq!(find(Some(&format!("Bearer {long}")), None, none, true), None);
}

#[test]
fn patterns_fit_as_stars_do_in_file_names() {
    let scope = |patterns: &[&str]| CameraScope::new(patterns.iter().copied()).unwrap();
    for (pattern, fits) in [
        ("*", true),
        (CAMERA, true),
        ("56*", true),
        ("*BF", true),
        ("56*AE*BF", true),
        ("*56", false),
        ("56*57*", false),
    ] {
        assert_eq!(scope(&[pattern]).contains(&camera(CAMERA)), fits, "{pattern}");
    }
    // What would take for ever with backtracking.
    assert!(!scope(&[&format!("{}E", "*F".repeat(31))]).contains(&camera(&"F".repeat(32))));
    let many: Vec<String> = (0..1_001).map(|n| format!("{n:032X}")).collect();
    assert!(CameraScope::new(many.iter().map(String::as_str)).is_err());
}

#[test]
fn a_client_may_ask_in_bursts_and_at_a_rate_and_memory_is_bounded() {
    let mut buckets = Buckets::new(10.0, 20.0, 3);
    let now = Instant::now();
    let taken = (0..100).filter(|_| buckets.take("a", now).is_ok()).count();
    assert_eq!(taken, 20);
    let wait = buckets.take("a", now).unwrap_err();
    assert!(wait <= Duration::from_millis(100) && buckets.take("a", now + wait).is_ok());
    assert!(buckets.take("b", now).is_ok(), "another's is another's");
    assert!(buckets.take("c", now).is_ok());
    // The table is full: strangers share one allowance, those who were there keep theirs.
    let strangers = (0..100).filter(|n| buckets.take(["d", "e", "f"][n % 3], now).is_ok()).count();
    assert_eq!((strangers, buckets.len()), (20, 3));
    assert!(buckets.take("b", now).is_ok());
    // Who was quiet is forgotten.
    let later = now + Duration::from_secs(10);
    assert!(buckets.take("d", later).is_ok());
    assert_eq!(buckets.len(), 1);
}

#[test]
fn only_trusted_proxies_say_who_their_client_is() {
    let limits = ClientLimits::new(1, "10.0.0.0/8, fd00::/8".parse().unwrap());
    let client =
        |peer: &str, headers: &[&str]| limits.client(peer.parse().unwrap(), headers.iter().copied()).to_string();
    assert_eq!(client("203.0.113.9", &["192.0.2.1"]), "203.0.113.9", "forged");
    assert_eq!(client("10.1.1.1", &["192.0.2.1"]), "192.0.2.1");
    assert_eq!(client("10.1.1.1", &["127.0.0.1, 192.0.2.1, 10.2.2.2"]), "192.0.2.1", "what the client itself wrote");
    assert_eq!(client("10.1.1.1", &["127.0.0.1", "192.0.2.1:4711"]), "192.0.2.1");
    assert_eq!(client("fd00::1", &["[2001:db8::1]:80"]), "2001:db8::1");
    assert_eq!(client("10.1.1.1", &["192.0.2.1, nonsense"]), "10.1.1.1");
    assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
    assert_eq!(client("::ffff:10.1.1.1", &["192.0.2.1"]), "192.0.2.1");
    // One allowance for a household's addresses.
    let (first, second) = ("2001:db8::1".parse().unwrap(), "2001:db8::2:1".parse().unwrap());
    let now = Instant::now();
    (0..4).for_each(|_| limits.take(first, now).unwrap());
    assert!(limits.take(second, now).is_err());
    assert!(ClientLimits::new(0, Default::default()).take(first, now).is_ok());
}

#[test]
fn connections_are_counted_in_all_and_per_client_but_not_per_proxy() {
    let limits = ConnectionLimits { total: 4, per_client: 2, proxies: "10.0.0.0/8".parse().unwrap() };
    let connections = Connections::new(limits);
    let admit = |ip: &str| connections.admit(ip.parse().unwrap());
    let (first, _second) = (admit("192.0.2.1").unwrap(), admit("192.0.2.1").unwrap());
    assert_eq!(admit("192.0.2.1").unwrap_err(), Refused::PerClient);
    assert_eq!(admit("::ffff:192.0.2.1").unwrap_err(), Refused::PerClient);
    let _proxied = (admit("10.1.1.1").unwrap(), admit("10.1.1.1").unwrap());
    assert_eq!(admit("192.0.2.2").unwrap_err(), Refused::Total);
    drop(first);
    assert!(admit("192.0.2.1").is_ok());
    assert_eq!(connections.counts(), (3, 3));
}
