SEC("tp_btf/sched_switch") int a(void);
