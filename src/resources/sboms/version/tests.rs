//! Tables of the order of versions, one per ecosystem, from the rules of that ecosystem.

use super::*;

fn assert_ascending(ecosystem: &str, tables: &[&[&str]]) {
    for ascending in tables {
        let scheme = |version: &str| Scheme::of(Some(ecosystem), version);
        let keys: Vec<String> = ascending.iter().map(|v| key(v, scheme(v))).collect();
        for (at, pair) in keys.windows(2).enumerate() {
            let (low, high) = (ascending[at], ascending[at + 1]);
            assert!(pair[0] < pair[1], "{ecosystem}: {low} is below {high}: {pair:?}");
        }
    }
}

fn assert_equal(ecosystem: &str, tables: &[&[&str]]) {
    for same in tables {
        for version in *same {
            let of = |version: &str| key(version, Scheme::of(Some(ecosystem), version));
            assert_eq!(of(version), of(same[0]), "{ecosystem}: {version} is {}", same[0]);
            assert!(!of(version).is_empty(), "{version}");
        }
    }
}

// deb-version(7), and the tests of libdpkg (lib/dpkg/t/t-version.c).
#[test]
fn debian_versions_are_ordered_as_dpkg_orders_them() {
    assert_ascending(
        "deb",
        &[
            &["7.88.1-10+deb12u5", "7.88.1-10+deb12u15", "7.88.1-10+deb12u16", "7.88.1-11"],
            &["12.4", "12.4+deb12u11", "12.4+deb12u12", "12.5"],
            &["1~~", "1~~a", "1~", "1", "1a", "1+", "1.0"],
            &["1.0~rc1-1", "1.0-1~bpo12+1", "1.0-1", "1.0-1ubuntu2", "1.0-1+b1", "1.0-1.1"],
            &["1.0", "1.0-1", "1.0a-1", "1.0+dfsg-1", "1.0.0", "1.0.0-1", "1.1"],
            &["9.9-9", "1:0.1-1", "1:1.0-1", "2:0"],
            &["1-1-1", "1-2-1", "1-2-2"],
            &["1.0Z", "1.0a", "1.0z", "1.0+"],
        ],
    );
    assert_equal(
        "deb",
        &[&["1.0", "0:1.0", "1.0-0", "01.00", "1.0-"], &["1.2-01", "1.2-1"], &["1a", "1a0"]],
    );
}

// rpm-version(7), and the tests of rpmvercmp (tests/rpmvercmp.at).
#[test]
fn rpm_versions_are_ordered_as_rpm_orders_them() {
    assert_ascending(
        "rpm",
        &[
            &["1.0~rc1", "1.0~rc2", "1.0", "1.0^git1", "1.0^git2", "1.0.1"],
            &["1.0^20160101", "1.0.1^20160101"],
            &["1.0", "1.0-1.el9", "1.0-2.el9", "1.0-10.el9"],
            &["1b.fc17", "1.fc17"],
            &["5.5p1", "5.5p2", "5.5p10"],
            &["10xyz", "10.1xyz"],
            &["2.0.1", "2.0.1a", "2.0.2"],
            &["1.1.1k-9.el8", "1:1.0-1.el8", "1:1.1.1k-9.el8_7"],
            &["5.16.1.3-1", "5.16.3-1"],
        ],
    );
    assert_equal("rpm", &[&["1.0", "0:1.0", "1_0", "1.0."], &["10.0001", "10.1"]]);
}

// The test data of apk-tools (test/version.data).
#[test]
fn alpine_versions_are_ordered_as_apk_orders_them() {
    assert_ascending(
        "apk",
        &[
            &["3.0.1-r0", "3.0.1-r1", "3.0.1-r10", "3.0.2-r0"],
            &["1.0_alpha", "1.0_alpha1", "1.0_beta2", "1.0_pre1", "1.0_rc1", "1.0", "1.0_p1"],
            &["0.1.0_alpha", "0.1.0", "0.1.0_cvs20200101", "0.1.0_git1", "0.1.0a", "0.1.0.1"],
            &["1.02", "1.1", "1.10"],
            &["2.3.0", "2.3.0-r1", "2.3.0b", "2.3.0c", "2.3.1"],
            &["6.0_alpha", "6.0_alpha-r1", "6.0_alpha1", "6.0"],
        ],
    );
    assert_equal("apk", &[&["1.2.3-r1", "v1.2.3-r1"]]);
}

// Semantic Versioning 2.0.0, item 11.
#[test]
fn semantic_versions_are_ordered_by_item_11() {
    for ecosystem in ["npm", "cargo", "golang", "hex", "swift", "nuget"] {
        assert_ascending(
            ecosystem,
            &[
                &[
                    "1.0.0-alpha",
                    "1.0.0-alpha.1",
                    "1.0.0-alpha.beta",
                    "1.0.0-beta",
                    "1.0.0-beta.2",
                    "1.0.0-beta.11",
                    "1.0.0-rc.1",
                    "1.0.0",
                    "2.0.0",
                    "2.1.0",
                    "2.1.1",
                ],
                &["1.0.0-1", "1.0.0-canary", "1.0.0"],
                &["1.9.9", "1.10.0-rc1", "1.10.0", "1.10.0.1"],
            ],
        );
        assert_equal(ecosystem, &[&["1.2.3", "1.2.3+build.5", "v1.2.3"], &["1.0.0", "1"]]);
    }
    assert_ascending("npm", &[&["1.0.0-Beta", "1.0.0-alpha"]]);
    // NuGet, "Package versioning": letter case does not count, and a fourth number may follow.
    assert_equal("nuget", &[&["1.0.0-Beta", "1.0.0-beta"], &["1.2.3.0", "1.2.3"]]);
}

// The packages `go/version` and `golang.org/x/mod/semver`.
#[test]
fn go_versions_are_ordered_with_and_without_their_prefix() {
    assert_ascending(
        "golang",
        &[
            &["go1.21rc2", "go1.21.0", "go1.22.5", "1.22.7", "go1.23.0", "v1.23.4"],
            &["go1.20beta1", "go1.20rc1", "go1.20"],
            &["v0.0.0-20190101000000-abcdefabcdef", "v0.0.0-20200101000000-abcdefabcdef", "v0.0.1"],
        ],
    );
    assert_equal(
        "golang",
        &[
            &["1.22.5", "go1.22.5", "v1.22.5", "go1.22.5 X:boringcrypto", "go1.22.5-bigcorp"],
            &["v2.0.0+incompatible", "2.0.0"],
        ],
    );
    // Without a package URL, the version itself shows the ecosystem.
    assert_eq!(Scheme::of(None, "go1.22.5 X:boringcrypto"), Scheme::Semver);
    assert_eq!(Scheme::of(None, "gopher"), Scheme::Generic);
}

// `Gem::Version` of RubyGems.
#[test]
fn gem_versions_are_ordered_as_rubygems_orders_them() {
    assert_ascending(
        "gem",
        &[
            &["1.0.a", "1.0.a.2", "1.0.b1", "1.0", "1.0.1"],
            &["7.0.0.alpha2", "7.0.0.beta1", "7.0.0.rc1", "7.0.0", "7.0.0.1"],
            &["1.0-1", "1.0"],
        ],
    );
    assert_equal("gem", &[&["1.0", "1", "1.0.0"], &["1.0.a", "1.a"]]);
}

// PEP 440, and the version specifiers of the Python packaging guide: a local version after a `+` is not compared.
#[test]
fn python_versions_are_ordered_by_pep_440() {
    assert_ascending(
        "pypi",
        &[
            &[
                "1.0.dev1",
                "1.0a1.dev1",
                "1.0a1",
                "1.0b2",
                "1.0rc1.dev2",
                "1.0rc1",
                "1.0",
                "1.0.post1",
                "1.0.1",
                "1!0.1",
            ],
            &["2.0a1", "2.0"],
        ],
    );
    assert_equal(
        "pypi",
        &[&["1.0rc1", "1.0.0rc1", "1.0.RC.1", "1.0c1"], &["2.1.0", "2.1.0+cu118"]],
    );
}

// Maven, `ComparableVersion` and "Version Order Specification" of the POM reference.
#[test]
fn maven_versions_are_ordered_as_maven_orders_them() {
    assert_ascending(
        "maven",
        &[
            &[
                "1-alpha-1",
                "1-beta-1",
                "1-milestone-1",
                "1-rc-1",
                "1-SNAPSHOT",
                "1",
                "1-sp",
                "1-foo",
                "1-1",
                "1.1",
            ],
            &["2.0-rc2", "2.0.1", "2.3.4-jre", "2.3.5"],
        ],
    );
    assert_equal("maven", &[&["1.0", "1.0.Final", "1.0.0.RELEASE", "1-ga"], &["1-rc-1", "1-cr1"]]);
}

#[test]
fn versions_of_no_known_ecosystem_are_ordered_by_the_shared_rules() {
    assert_ascending(
        "generic",
        &[
            &["2.9", "2.10", "2.17", "2.17.1", "2.100", "10"],
            &["0.1", "0.1.1", "0.2", "1"],
            &["1.0.99999999999999999999", "1.0.100000000000000000000"],
            &["0.2.0-dev", "0.2.0"],
            &["1.0~rc1-1", "1.0-1", "1.0-1ubuntu2", "1.0-2", "1:0.9"],
            &["1.0.2", "1.0.2k", "1.0.2l", "1.1.0"],
        ],
    );
    assert_equal(
        "generic",
        &[
            &["2.17", "2.17.0", "2.17.0.0", "v2.17", "V2.17", " 2.17.0.RELEASE "],
            &["2.17", "release-2.17", "Release/v2.17", "version 2.17", "ver2.17", "rel_2.17"],
            &["17.0.1", "jdk-17.0.1", "jdk17.0.1", "17.0.1+12"],
            &["0", "0.0.0", "0!0"],
        ],
    );
    assert_eq!(Scheme::of(None, "12.4+deb12u11"), Scheme::Deb);
    assert_eq!(Scheme::of(Some("generic"), "1.0+dfsg-1"), Scheme::Deb);
    assert_eq!(Scheme::of(Some("npm"), "1.0.0+deb12u1"), Scheme::Semver);
    assert_eq!(
        key_without("OpenSSL-3.0.1", "openssl", Scheme::Generic),
        key("3.0.1", Scheme::Generic)
    );
}

#[test]
fn a_text_that_is_not_a_version_has_no_key() {
    for none in [
        "",
        " ",
        "latest",
        "main",
        "v",
        "-1",
        "~1",
        "${project.version}",
        "a1b2c3",
        "+1",
        "\u{e9}",
        "devel",
        "go",
        "gopher1",
        "version",
        "d1e2f3",
    ] {
        for scheme in Scheme::ALL {
            assert_eq!(key(none, scheme), "", "{none}");
        }
    }
}

#[test]
fn a_bound_is_compared_within_each_ecosystem_only() {
    let found = |below: &str, version: &str, scheme: Scheme| {
        let ranges = ranges(None, Some(below)).unwrap();
        let key = key(version, scheme);
        ranges.iter().any(|(low, high)| *low <= key && key < *high)
    };
    assert!(found("7.88.1-10+deb12u16", "7.88.1-10+deb12u15", Scheme::Deb));
    assert!(!found("7.88.1-10+deb12u15", "7.88.1-10+deb12u15", Scheme::Deb));
    assert!(!found("1.2.3+build.6", "1.2.3+build.5", Scheme::Semver));
    // A bound with an epoch says nothing about versions that have none.
    assert!(!found("1:2.0", "1.0.0", Scheme::Semver));
    for scheme in Scheme::ALL {
        assert!(found("2.0", "1.9", scheme) && !found("2.0", "2.0", scheme), "{scheme:?}");
        assert!(!found("2.0", "latest", scheme));
    }
    assert_eq!(ranges(None, None), None);
    let from = ranges(Some("2.0"), None).unwrap();
    for scheme in Scheme::ALL {
        let inside = |version| {
            let key = key(version, scheme);
            from.iter().any(|(low, high)| *low <= key && key < *high)
        };
        assert!(inside("2.0") && inside("10") && !inside("1.9") && !inside("latest"));
    }
}

#[test]
fn the_key_of_a_long_version_has_limited_length() {
    for scheme in Scheme::ALL {
        for version in ["1.".repeat(64), "1a".repeat(64), "1~".repeat(64), "9".repeat(1_000)] {
            assert!(key(&version, scheme).len() < 800, "{scheme:?}");
        }
        assert!(key(&"9".repeat(128), scheme) > key(&"8".repeat(128), scheme));
    }
}
