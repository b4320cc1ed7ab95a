//! Who is let in: the credentials of the configuration, read at the start, and again when their files change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StartError;
use crate::access::{Access, ApiKey, Replaced, TokenSettings};
use crate::base::files::FileWatch;
use crate::config::{AuthConfig, Config, Loaded};
use crate::telemetry::metrics::{Collect, Page, catalog};

/// Credentials are checked before anything listens; without access control everybody on the network is told so.
pub(super) fn start(config: &Config) -> Result<Access, StartError> {
    if !config.auth.enabled {
        let hosts = [config.api.host, config.signaling.host, config.dashboard.host];
        if hosts.iter().any(|host| !host.is_loopback()) {
            tracing::warn!(
                "ACCESS IS NOT CONTROLLED: everybody who reaches the API, signaling or dashboard port may watch, start \
                 and stop every camera. Set AUTH_ENABLED, or bind to 127.0.0.1"
            );
        }
        return Ok(Access::off());
    }
    let (keys, tokens) = credentials(&config.auth).map_err(StartError::Access)?;
    Access::new(keys, &tokens).map_err(|error| StartError::Access(format!("auth.jwt_key_set: {error}")))
}

fn credentials(auth: &AuthConfig) -> Result<(Vec<ApiKey>, TokenSettings), String> {
    let keys: Result<Vec<ApiKey>, _> = auth.api_keys.iter().map(|text| text.parse()).collect();
    let key_set = auth.jwt_key_set.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|error| format!("auth.jwt_key_set: {}: {error}", path.display()))
    });
    let tokens = TokenSettings {
        secret: auth.jwt_secret.reveal().map(str::to_owned),
        key_set: key_set.transpose()?,
        issuer: auth.jwt_issuer.clone(),
        audience: auth.jwt_audience.clone(),
    };
    Ok((keys.map_err(|error| format!("auth.api_keys: {error}"))?, tokens))
}

/// Takes new credentials over while the service runs. Other settings of the same files need a restart.
pub(super) struct AccessWatch {
    access: Access,
    /// As it was read last.
    loaded: Loaded,
    files: FileWatch,
    state: ReloadState,
}

/// Whether the files, as they are now, cannot be used.
#[derive(Clone, Default)]
pub(super) struct ReloadState(Arc<AtomicBool>);

impl Collect for ReloadState {
    fn collect(&self, page: &mut Page) {
        page.add(&catalog::ACCESS_RELOAD_FAILED, &[], f64::from(u8::from(self.0.load(Ordering::Relaxed))));
    }
}

impl AccessWatch {
    /// For an `access` that was made of `loaded`. The files are read at the first look: they may be others already.
    pub(super) fn new(access: Access, loaded: Loaded, state: ReloadState) -> Self {
        Self { access, loaded, files: FileWatch::default(), state }
    }

    /// Takes over what is new. What cannot be used changes nothing, and is warned about.
    pub(super) fn look(&mut self) {
        let Self { access, loaded, files, state } = self;
        let Some(read) = files.look(&loaded.access_files(), || anew(access, loaded)) else { return };
        state.0.store(read.is_err(), Ordering::Relaxed);
        match read {
            Ok((again, replaced)) => {
                *loaded = again;
                if replaced != Replaced::default() {
                    let Replaced { added, withdrawn } = replaced;
                    tracing::info!(added, withdrawn, "keys and tokens are checked by the files as they are now");
                }
            }
            Err(error) => tracing::warn!(%error, "new keys cannot be taken over; the earlier ones stay"),
        }
    }
}

fn anew(access: &Access, loaded: &Loaded) -> Result<(Loaded, Replaced), String> {
    let again = loaded.again().map_err(|problems| {
        let texts: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        texts.join("; ")
    })?;
    if !again.config.auth.enabled {
        return Err("auth.enabled: access control is switched off by a restart only".to_owned());
    }
    let (keys, tokens) = credentials(&again.config.auth)?;
    let replaced = access.replace(keys, &tokens).map_err(|error| format!("auth.jwt_key_set: {error}"))?;
    Ok((again, replaced))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::access::{Credential, Denied, Grant, keys};
    use crate::config::{Sources, load};

    struct Site {
        folder: tempfile::TempDir,
        access: Access,
        watch: AccessWatch,
        state: ReloadState,
    }

    impl Site {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("honeycast.toml");
            std::fs::write(&file, text).unwrap();
            let loaded = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
            let (access, state) = (start(&loaded.config).unwrap(), ReloadState::default());
            let watch = AccessWatch::new(access.clone(), loaded, state.clone());
            Self { folder, access, watch, state }
        }

        /// Writes a file and lets the watch see it as often as it takes to believe it.
        fn write(&mut self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
            self.watch.look();
            self.watch.look();
        }

        fn ask(&self, credential: Credential<'_>) -> Result<Grant, Denied> {
            self.access.grant(Some(credential), SystemTime::now())
        }

        fn failed(&self) -> bool {
            self.state.0.load(Ordering::Relaxed)
        }
    }

    fn auth(keys: &[&str]) -> String {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"x:view:*:{}\"", keys::hash(key))).collect();
        format!("[auth]\nenabled = true\napi_keys = [{}]\n", keys.join(", "))
    }

    /// Whether what rests on a grant has been ended.
    async fn ended(grant: &Grant) -> bool {
        tokio::time::timeout(Duration::ZERO, grant.ended(SystemTime::now())).await.is_ok()
    }

    #[tokio::test]
    async fn keys_of_the_file_come_and_go_and_what_rests_on_a_withdrawn_one_ends() {
        let (stays, goes, comes) = (keys::create(), keys::create(), keys::create());
        let mut site = Site::new(&auth(&[&stays, &goes]));
        site.watch.look();
        let staying = site.ask(Credential::Bearer(&stays)).unwrap();
        let going = site.ask(Credential::Bearer(&goes)).unwrap();
        let cookie = |grant: &Grant| site.access.session(grant, SystemTime::now()).unwrap().0;
        let (staying_cookie, going_cookie) = (cookie(&staying), cookie(&going));
        let by_cookie = site.ask(Credential::Session(&going_cookie)).unwrap();

        // What cannot be used changes nothing, whatever is wrong with it.
        for broken in
            ["[auth]\nenabled = true\napi_keys = [\"x:view:*:zz\"]\n", "nonsense", "[auth]\nenabled = false\n"]
        {
            site.write("honeycast.toml", broken);
            assert!(site.failed(), "{broken}");
            assert!(site.ask(Credential::Bearer(&goes)).is_ok() && !ended(&going).await, "{broken}");
        }

        site.write("honeycast.toml", &auth(&[&comes, &stays]));
        assert!(!site.failed());
        assert!(site.ask(Credential::Bearer(&comes)).is_ok());
        assert!(site.ask(Credential::Bearer(&stays)).is_ok() && site.ask(Credential::Session(&staying_cookie)).is_ok());
        assert!(!ended(&staying).await, "what is there as it was goes on");
        assert_eq!(site.ask(Credential::Bearer(&goes)), Err(Denied::UnknownKey));
        assert_eq!(site.ask(Credential::Session(&going_cookie)), Err(Denied::Session));
        assert!(ended(&going).await && ended(&by_cookie).await);

        // The same key with other rights is another one.
        site.write("honeycast.toml", &auth(&[&stays]).replace(":view:", ":admin:"));
        assert!(ended(&staying).await);
        assert_eq!(site.ask(Credential::Bearer(&stays)).unwrap().role(), crate::access::Role::Admin);
    }

    /// A key for ES256: its key set, and a token that it signs.
    fn issuer() -> (String, String) {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)}]});
        let header = base64(br#"{"alg":"ES256"}"#);
        let message = format!("{header}.{}", base64(br#"{"role":"view","exp":4000000000}"#));
        let signature = key.sign(&random, message.as_bytes()).unwrap();
        (set.to_string(), format!("{message}.{}", base64(signature.as_ref())))
    }

    #[tokio::test]
    async fn a_new_key_set_is_taken_and_ends_what_only_the_earlier_one_let_in() {
        let ((first, by_first), (second, by_second)) = (issuer(), issuer());
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("jwks.json");
        std::fs::write(&set, first).unwrap();
        let mut site = Site::new(&format!("[auth]\nenabled = true\njwt_key_set = {set:?}\n"));
        site.watch.look();
        let grant = site.ask(Credential::Bearer(&by_first)).unwrap();
        assert_eq!(site.ask(Credential::Bearer(&by_second)), Err(Denied::Signature));
        let mut write = |text: &str| {
            std::fs::write(&set, text).unwrap();
            site.watch.look();
            site.watch.look();
            site.state.0.load(Ordering::Relaxed)
        };
        assert!(write("{\"keys\": []}"), "a set without keys");
        assert!(!ended(&grant).await);
        assert!(!write(&second));
        assert!(ended(&grant).await);
        assert_eq!(site.ask(Credential::Bearer(&by_first)), Err(Denied::Signature));
        assert!(site.ask(Credential::Bearer(&by_second)).is_ok());
    }
}
