//! Simulated gateways, and time that passes.

use std::time::Duration;

use shoreguard::feed;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

use super::server::TestServer;

impl TestServer {
    /// Starts a simulated gateway of a generation and registers it.
    pub(crate) async fn start_gateway(&self, name: &str, generation: Generation) -> Simulator {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        self.register_gateway(name, simulator.addr()).await;
        simulator
    }

    /// Advances all clocks, including timers and the clock of leases, and reads the access data again.
    pub(crate) async fn pass(&self, time: Duration) {
        self.app.clock.advance(time);
        self.app.db.advance_clock(time);
        feed::refresh(&self.app).await.unwrap();
    }
}
