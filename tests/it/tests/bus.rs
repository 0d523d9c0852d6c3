//! The bus through a real MQTT 5 broker: Debian's Mosquitto, on a loopback port of its own, stopped by process id.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine::message::Ack;
use engine::units::MessageId;
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
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free loopback port")
            .port();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
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
