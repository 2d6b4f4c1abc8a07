//! The API of an OpenShell gateway, in both generations.
//!
//! Modules are named after packages, so `v0_0::openshell::v1::Sandbox` is `openshell.v1.Sandbox` of generation 0.0.

macro_rules! generated {
    ($generation:literal, $package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/openshell_", $generation, "/", $package, ".rs"));
    };
}

/// Generation 0.0, up to release 0.0.116.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v0_0 {
    pub mod openshell {
        pub mod v1 {
            generated!("v0_0", "openshell.v1");
        }
        pub mod sandbox {
            pub mod v1 {
                generated!("v0_0", "openshell.sandbox.v1");
            }
        }
        pub mod datamodel {
            pub mod v1 {
                generated!("v0_0", "openshell.datamodel.v1");
            }
        }
        pub mod inference {
            pub mod v1 {
                generated!("v0_0", "openshell.inference.v1");
            }
        }
    }
}

/// Generation 0.1, from release 0.1.0.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v0_1 {
    pub mod openshell {
        pub mod v1 {
            generated!("v0_1", "openshell.v1");
        }
        pub mod sandbox {
            pub mod v1 {
                generated!("v0_1", "openshell.sandbox.v1");
            }
        }
        pub mod datamodel {
            pub mod v1 {
                generated!("v0_1", "openshell.datamodel.v1");
            }
        }
    }
}
