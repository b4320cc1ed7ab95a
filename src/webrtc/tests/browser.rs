//! A browser for tests: webrtc-rs's DTLS endpoint, SRTP contexts and STUN messages, on virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dtls::config::{ClientAuthType, ConfigBuilder};
use dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_shared::TransportProtocol;
use srtp::context::Context;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE};

use crate::webrtc::ice::tests::check;
use crate::webrtc::keys::{SessionKeys, SrtpProfile};
use crate::webrtc::{
    Answer, CloseCause, Feedback, Identity, LocalCandidate, Output, ParsedOffer, RunningCodecs, Sealer, Session,
    SessionConfig,
};

const OFFER: &str = include_str!("../../../tests/data/offer-chromium.sdp");
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8189);
/// More turns than any exchange here needs: a loop that reaches it does not come to rest.
const MAX_TURNS: usize = 10_000;

/// How the browser side differs from an ordinary one.
pub(super) struct Habits {
    pub(super) profiles: Vec<SrtpProfile>,
    /// Bytes at which handshake messages are cut; small ones cut the ClientHello.
    pub(super) mtu: usize,
    /// `a=setup` of the offer.
    pub(super) setup: &'static str,
    /// The offer names another certificate than DTLS shows.
    pub(super) wrong_fingerprint: bool,
    pub(super) without_certificate: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            // Chromium's order.
            profiles: vec![SrtpProfile::Aes128CmHmacSha1_80, SrtpProfile::AeadAes128Gcm],
            mtu: 1200,
            setup: "actpass",
            wrong_fingerprint: false,
            without_certificate: false,
        }
    }
}

/// A session and a browser, and the network and clock between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) session: Session,
    pub(super) answer: Answer,
    pub(super) offer: String,
    pub(super) config: SessionConfig,
    pub(super) address: SocketAddr,
    endpoint: Endpoint,
    is_client: bool,
    pub(super) browser_keys: Option<(SessionKeys, SrtpProfile)>,
    pub(super) browser_closed: bool,
    to_session: VecDeque<Vec<u8>>,
    to_browser: VecDeque<Vec<u8>>,
    /// What came out of the session, STUN and DTLS datagrams left out.
    pub(super) sealer: Option<(Sealer, SrtpProfile)>,
    pub(super) connected: u32,
    pub(super) paths: Vec<SocketAddr>,
    pub(super) feedback: Vec<Feedback>,
    pub(super) closed: Vec<CloseCause>,
    pub(super) stun_answers: u32,
    pub(super) sent_to: Vec<SocketAddr>,
}

/// Whether to lose the n-th DTLS datagram; counted over both directions.
pub(super) type Loss<'a> = &'a mut dyn FnMut(usize) -> bool;

impl World {
    pub(super) fn new(habits: &Habits) -> Self {
        let now = Instant::now();
        let browser = Identity::generate().unwrap();
        let shown = if habits.wrong_fingerprint { Identity::generate().unwrap() } else { browser.clone() };
        let own = OFFER.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap();
        let offer = OFFER
            .replace(own, &shown.fingerprint().to_string())
            .replace("a=setup:actpass", &format!("a=setup:{}", habits.setup));
        let candidate = LocalCandidate::udp(SERVER.ip(), SERVER.port());
        let config = SessionConfig { identity: Identity::generate().unwrap(), candidates: vec![candidate] };
        let (session, answer) =
            Session::accept(&ParsedOffer::parse(&offer).unwrap(), &config, RunningCodecs::default(), now).unwrap();
        let is_client = habits.setup != "passive";
        let certificates = if habits.without_certificate { vec![] } else { vec![browser.certificate()] };
        let dtls = ConfigBuilder::default()
            .with_crypto_provider(browser.provider())
            .with_certificates(certificates)
            .with_srtp_protection_profiles(habits.profiles.iter().map(|p| p.dtls()).collect())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_mtu(habits.mtu)
            .build(is_client, Some(SERVER))
            .unwrap();
        let dtls = Arc::new(dtls);
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let mut endpoint = Endpoint::new(address, TransportProtocol::UDP, (!is_client).then(|| dtls.clone()));
        if is_client {
            endpoint.connect(now, SERVER, dtls, None).unwrap();
        }
        Self {
            now,
            session,
            answer,
            offer,
            config,
            address,
            endpoint,
            is_client,
            browser_keys: None,
            browser_closed: false,
            to_session: VecDeque::new(),
            to_browser: VecDeque::new(),
            sealer: None,
            connected: 0,
            paths: vec![],
            feedback: vec![],
            closed: vec![],
            stun_answers: 0,
            sent_to: vec![],
        }
    }

    /// A world in which media can flow.
    pub(super) fn connected(habits: &Habits) -> Self {
        let mut world = Self::new(habits);
        world.check(false);
        world.run(&mut |_| false);
        assert_eq!((world.connected, world.closed.len()), (1, 0));
        world
    }

    /// A line of the answer after its prefix.
    pub(super) fn answered(&self, prefix: &str) -> &str {
        self.answer.sdp.lines().find_map(|line| line.strip_prefix(prefix)).unwrap()
    }

    /// A connectivity check as this browser sends it.
    pub(super) fn stun(&self, nominate: bool) -> Vec<u8> {
        let own = self.offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap();
        let username = format!("{}:{own}", self.answered("a=ice-ufrag:"));
        let mut extra = vec![ATTR_ICE_CONTROLLING];
        extra.extend(nominate.then_some(ATTR_USE_CANDIDATE));
        check(&username, self.answered("a=ice-pwd:"), &extra)
    }

    /// Sends a check from the browser's present address.
    pub(super) fn check(&mut self, nominate: bool) {
        let request = self.stun(nominate);
        self.send(&request);
    }

    /// Delivers a datagram from the browser's present address.
    pub(super) fn send(&mut self, datagram: &[u8]) {
        self.session.handle_datagram(self.address, datagram, self.now);
        self.take_outputs();
    }

    /// The next DTLS datagrams that the browser wants to send.
    pub(super) fn browser_datagrams(&mut self) -> Vec<Vec<u8>> {
        self.collect_from_browser();
        self.to_session.drain(..).collect()
    }

    /// Exchanges DTLS datagrams until both sides are quiet, moving the clock to their timers, for up to a
    /// minute or until the session is connected or over.
    pub(super) fn run(&mut self, lose: Loss<'_>) {
        let end = self.now + Duration::from_secs(60);
        let mut count = 0;
        for _ in 0..MAX_TURNS {
            self.take_outputs();
            self.collect_from_browser();
            if self.deliver(&mut count, lose) {
                continue;
            }
            let settled = self.connected > 0 && self.browser_keys.is_some();
            let next = [self.session.poll_timeout(), self.endpoint.poll_timeout(&SERVER)];
            match next.into_iter().flatten().min().filter(|_| !settled) {
                Some(at) if at <= end => self.advance_to(at),
                _ => return,
            }
        }
        panic!("the exchange does not come to rest");
    }

    fn deliver(&mut self, count: &mut usize, lose: Loss<'_>) -> bool {
        let mut busy = false;
        if let Some(datagram) = self.to_session.pop_front() {
            busy = true;
            *count += 1;
            if !lose(*count - 1) {
                self.send(&datagram);
            }
        }
        if let Some(datagram) = self.to_browser.pop_front() {
            busy = true;
            *count += 1;
            if !lose(*count - 1) {
                self.browser_reads(&datagram);
            }
        }
        busy
    }

    /// Moves the clock and lets both sides do what is due; keeps consent alive as a browser does.
    fn advance_to(&mut self, at: Instant) {
        self.now = at.max(self.now);
        self.check(false);
        self.session.handle_timeout(self.now);
        self.take_outputs();
        let _ = self.endpoint.handle_timeout(SERVER, self.now);
    }

    /// Lets time pass without a word from the browser.
    pub(super) fn silence(&mut self, for_: Duration) {
        self.now += for_;
        self.session.handle_timeout(self.now);
        self.take_outputs();
    }

    fn browser_reads(&mut self, datagram: &[u8]) {
        let events = self.endpoint.read(self.now, SERVER, None, BytesMut::from(datagram));
        for event in events.unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(SERVER).unwrap();
                    let profile = SrtpProfile::from_dtls(state.srtp_protection_profile()).unwrap();
                    let material =
                        state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.export_len()).unwrap();
                    let keys = SessionKeys::split(material.as_ref(), profile, self.is_client).unwrap();
                    self.browser_keys = Some((keys, profile));
                }
                EndpointEvent::PeerClosed => self.browser_closed = true,
                _ => {}
            }
        }
    }

    fn collect_from_browser(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.to_session.push_back(transmit.message.to_vec());
        }
    }

    pub(super) fn take_outputs(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Transmit { to, datagram } => {
                    self.sent_to.push(to.address);
                    match datagram[0] {
                        0..=3 => self.stun_answers += 1,
                        _ => self.to_browser.push_back(datagram),
                    }
                }
                Output::Path(path) => self.paths.push(path.address),
                Output::Connected { sealer, profile } => {
                    self.connected += 1;
                    self.sealer = Some((sealer, profile));
                }
                Output::Feedback(feedback) => self.feedback.push(feedback),
                Output::Closed(cause) => self.closed.push(cause),
            }
        }
    }

    /// Only the browser's retransmission timer runs out, as with Chromium, which starts at 50 ms.
    pub(super) fn browser_repeats(&mut self) {
        let due = self.endpoint.poll_timeout(&SERVER).unwrap();
        self.endpoint.handle_timeout(SERVER, due).unwrap();
        for datagram in self.browser_datagrams() {
            self.send(&datagram);
        }
    }

    /// Loses what the session has queued for the browser; gives the number of datagrams.
    pub(super) fn lose_to_browser(&mut self) -> usize {
        self.to_browser.drain(..).count()
    }

    /// Delivers what the session has queued for the browser.
    pub(super) fn flush_to_browser(&mut self) {
        self.take_outputs();
        while let Some(datagram) = self.to_browser.pop_front() {
            self.browser_reads(&datagram);
        }
    }

    /// The browser closes its connection.
    pub(super) fn browser_closes(&mut self) {
        self.endpoint.close(self.now).unwrap();
        for datagram in self.browser_datagrams() {
            self.send(&datagram);
        }
    }

    /// The browser's contexts: for what it sends and for what it receives.
    pub(super) fn browser_srtp(&self) -> (Context, Context) {
        let (keys, profile) = self.browser_keys.as_ref().unwrap();
        let provider = rtc_crypto::default_provider().unwrap();
        let context = |keys: &crate::webrtc::keys::DirectionKeys| {
            Context::new(keys.key(), keys.salt(), (*profile).into(), None, None, provider.crypto()).unwrap()
        };
        (context(&keys.send), context(&keys.receive))
    }
}
