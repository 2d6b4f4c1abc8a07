DROP TABLE sandbox_boot_hooks;
