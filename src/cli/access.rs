//! Keys and tokens for access control, made where they are needed.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;

use crate::access::{ApiKey, CameraScope, Grant, Role, create_token, keys};
use crate::base::time::iso8601;
use crate::config;

/// Longest life of a token made here: revoking one means changing the secret.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// What a new key or token allows.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// Whose it is; stands in logs and in the configuration.
    #[arg(long, default_value = "somebody")]
    name: String,
    /// view, control or admin.
    #[arg(long, default_value = "view")]
    role: String,
    /// Camera ids and patterns like `56C1*`, with + between them; * for all.
    #[arg(long, default_value = "*")]
    cameras: String,
}

/// `create-key`.
#[derive(Debug, Args)]
pub(super) struct CreateKeyArgs {
    #[command(flatten)]
    grant: GrantArgs,
    /// When it ends, like 2027-01-31T00:00:00Z. Without it: never.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

/// `create-token`.
#[derive(Debug, Args)]
pub(super) struct CreateTokenArgs {
    #[command(flatten)]
    grant: GrantArgs,
    /// Seconds until it ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    seconds: u64,
    #[command(flatten)]
    settings: super::Settings,
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn create_key(args: &CreateKeyArgs) -> anyhow::Result<ExitCode> {
    let key = keys::create();
    let GrantArgs { name, role, cameras } = &args.grant;
    let mut entry = format!("{name}:{role}:{cameras}:{}", keys::hash(&key));
    if let Some(expires) = &args.expires {
        entry = format!("{entry}:{expires}");
    }
    if name.contains([':', ',', '"']) {
        bail!("--name must not hold a colon, comma or quotation mark");
    }
    entry.parse::<ApiKey>().map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("key, shown only now: {key}\nfor auth.api_keys:    \"{entry}\"");
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn hash_key() -> anyhow::Result<ExitCode> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        super::complain("type the key, then Enter and Ctrl-D");
    }
    let mut text = String::new();
    stdin.by_ref().take(64 * 1024).read_to_string(&mut text).context("cannot read the key from standard input")?;
    let key = text.trim();
    if key.len() < keys::MIN_LENGTH {
        bail!(
            "a key must have at least {} characters, by chance and not by choice; `honeycast create-key` makes one",
            keys::MIN_LENGTH
        );
    }
    println!("{}", keys::hash(key));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn token(args: &CreateTokenArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(&args.settings.sources())?;
    let Some(secret) = loaded.config.auth.jwt_secret.reveal() else {
        bail!("auth.jwt_secret (JWT_SECRET_KEY) is not set");
    };
    let role: Role = args.grant.role.parse().map_err(|why| anyhow::anyhow!("--role {why}"))?;
    let cameras = CameraScope::new(args.grant.cameras.split('+')).map_err(|why| anyhow::anyhow!("--cameras {why}"))?;
    let lifetime = Duration::from_secs(args.seconds);
    if lifetime.is_zero() || lifetime > LONGEST {
        bail!("--seconds must be 1 to {}", LONGEST.as_secs());
    }
    let until = SystemTime::now() + lifetime;
    let grant = Grant::new(args.grant.name.as_str(), role, cameras, Some(until));
    let token = create_token(secret, &grant, until).map_err(|why| anyhow::anyhow!("auth.jwt_secret: {why}"))?;
    super::complain(&format!("a token for {role}, until {}", iso8601(until)));
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}
