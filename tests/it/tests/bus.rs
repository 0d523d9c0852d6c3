//! The bus through a real MQTT 5 broker: Debian's Mosquitto, on a loopback port of its own, stopped by process id.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use caretaker::provisioning;
use engine::message::{Ack, topic};
use engine::units::MessageId;
use osimage::provision::Provision;
use runtime::bus::{Bus, MqttSettings, Subscription};
use tokio::time::timeout;

/// Long enough for a loaded machine; a healthy exchange takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that dies with its owner.
pub struct Broker {
    child: Child,
    config: PathBuf,
    _folder: tempfile::TempDir,
    pub settings: MqttSettings,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more in its configuration.
    fn start_with(more: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free loopback port")
            .port();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{more}");
        std::fs::write(&config, text).expect("written");
        let child = Self::spawn(&config);
        let settings = MqttSettings { host: "127.0.0.1".to_owned(), port };
        Self { child, config, _folder: folder, settings }
    }

    fn spawn(config: &Path) -> Child {
        let program = ["/usr/sbin/mosquitto", "mosquitto"]
            .into_iter()
            .find(|program| !program.starts_with('/') || Path::new(program).exists())
            .expect("a name");
        Command::new(program)
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts (make deps installs it)")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.config);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(number: u32) -> Ack {
    Ack { ids: vec![MessageId(format!("test.0/{number}"))] }
}

/// Publishes until the subscriber hears it: subscriptions reach the broker in their own time.
async fn heard(from: &Bus, to: &mut Subscription, topic: &str, value: &Ack) {
    let exchange = async {
        loop {
            from.publish(topic, value);
            if let Ok(got) = timeout(Duration::from_millis(100), to.recv()).await
                && got.parse::<Ack>().expect("an ack") == *value
            {
                return;
            }
        }
    };
    timeout(PATIENCE, exchange).await.expect("heard in time");
}

#[tokio::test]
async fn services_hear_each_other_through_a_broker_that_dies_and_returns() {
    let mut broker = Broker::start();
    let (a, b) = (Bus::mqtt(&broker.settings, "a"), Bus::mqtt(&broker.settings, "b"));
    let mut inbox = b.subscribe("stile/test/#");
    heard(&a, &mut inbox, "stile/test/one", &message(1)).await;
    assert!(a.connected() && b.connected());

    broker.kill();
    let noticed = async {
        while a.connected() || b.connected() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, noticed).await.expect("the loss is noticed");

    broker.restart();
    heard(&a, &mut inbox, "stile/test/one", &message(2)).await;
}

#[tokio::test]
async fn a_late_subscriber_receives_the_newest_view() {
    let broker = Broker::start();
    let a = Bus::mqtt(&broker.settings, "a");
    let mut own = a.subscribe("stile/view/x");
    let published = async {
        loop {
            a.publish_view("stile/view/x", &message(7));
            if timeout(Duration::from_millis(100), own.recv()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, published).await.expect("stored by the broker");

    let b = Bus::mqtt(&broker.settings, "b");
    let mut late = b.subscribe("stile/view/+");
    let got = timeout(PATIENCE, late.recv()).await.expect("retained");
    assert_eq!(got.parse::<Ack>().expect("an ack"), message(7));
}

/// The broker of a box, with the bridge that the caretaker writes for its role.
fn box_broker(role: &str, name: &str, operator: &Broker) -> Broker {
    let text = format!(
        "issued = 1\nstore = \"Seoul 1\"\nrole = \"{role}\"\n[box]\nname = \"{name}\"\n\
         [broker]\nhost = \"127.0.0.1\"\nport = {}\n\
         [manifest]\nstore_map = \"/elsewhere.json\"\nadmission = \"/elsewhere.toml\"\n",
        operator.settings.port
    );
    let provision = Provision::parse(&text).expect("a provisioning file");
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../appliance/manifests/{role}.toml"));
    let manifest = std::fs::read_to_string(manifest).expect("the role's manifest");
    let told = provisioning::told(&provision, &manifest).expect("what services are told");
    let bridge = told.iter().find(|file| file.path.ends_with("/bridge.conf")).expect("a bridge");
    Broker::start_with(&bridge.text)
}

/// Entry gate, exit gate and store box of one store, through the operator's broker: passages reach the carts and the
/// other gate, acknowledgements come back, nothing goes round and round, and what is nobody else's stays.
#[tokio::test]
async fn the_boxes_of_a_store_hear_each_other() {
    let operator = Broker::start();
    let boxes = [("entry-gate", "entry"), ("exit-gate", "exit"), ("store-box", "store")]
        .map(|(role, name)| box_broker(role, name, &operator));
    let [entry, exit, store] = boxes.each_ref().map(|broker| Bus::mqtt(&broker.settings, "service"));
    let above = Bus::mqtt(&operator.settings, "above");
    let mut heard_above = above.subscribe("#");
    let mut at_exit = exit.subscribe(topic::PASSAGE);
    let mut at_store = store.subscribe("#");
    let mut acks = entry.subscribe(&format!("{}/gated-entry", topic::ACK));
    heard(&entry, &mut at_store, topic::PASSAGE, &message(1)).await;
    heard(&entry, &mut at_exit, topic::PASSAGE, &message(1)).await;
    heard(&store, &mut acks, &format!("{}/gated-entry", topic::ACK), &message(2)).await;
    heard(&store, &mut entry.subscribe(topic::SESSION_CLOSED), topic::SESSION_CLOSED, &message(3)).await;
    heard(&store, &mut exit.subscribe(topic::FLOOR_VIEW), topic::FLOOR_VIEW, &message(4)).await;
    // A receipt is the store's, and goes up; no gate has it.
    let mut receipts = entry.subscribe(topic::RECEIPT);
    heard(&store, &mut above.subscribe("Seoul-1/stile/cart/receipt"), topic::RECEIPT, &message(5)).await;
    assert!(timeout(Duration::from_millis(300), receipts.recv()).await.is_err(), "a gate has a receipt");
    let health = format!("{}/gated/x", topic::HEALTH);
    heard(&entry, &mut above.subscribe("Seoul-1/entry/#"), &health, &message(6)).await;

    // Once each from here on: everything is connected.
    while at_store.try_recv().is_some() || at_exit.try_recv().is_some() || heard_above.try_recv().is_some() {}
    entry.publish(topic::PASSAGE, &message(7));
    let last = format!("{}/done", topic::ACK);
    entry.publish(&last, &message(8));
    for (inbox, prefix) in [(&mut at_store, ""), (&mut heard_above, "Seoul-1/")] {
        let mut passages = 0;
        let end = format!("{prefix}{last}");
        let count = async {
            loop {
                let message = inbox.recv().await;
                passages +=
                    u32::from(message.topic.ends_with("gate/passage") && message.parse::<Ack>().is_ok());
                if message.topic == end {
                    return;
                }
            }
        };
        timeout(PATIENCE, count).await.expect("the last message");
        assert_eq!(passages, 1, "at {end}");
    }
    assert_eq!(at_exit.recv().await.parse::<Ack>().expect("an ack"), message(7));
    assert!(timeout(Duration::from_millis(300), at_exit.recv()).await.is_err(), "it goes round");
}
