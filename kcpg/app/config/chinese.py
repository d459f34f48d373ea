"""The table of keys in simplified Chinese: the second column of the texts in `keys.py`, for `docs/zh`. A test
compares the two, so that no key is without a row."""

from __future__ import annotations

from dataclasses import dataclass

from kcpg.app.config.values import ALGORITHMS, KCPTUN_ALGORITHMS


@dataclass(frozen=True, slots=True)
class Words:
    """What `Key` has under the same names, and its group's heading."""

    values: str
    default_text: str
    meaning: str
    limits: str = ""
    pending: str = ""


GROUPS = {
    "Node": "节点",
    "Addresses": "地址",
    "Applications": "应用程序",
    "Encryption": "加密",
    "Retransmission": "重传",
    "Bandwidth and size": "带宽与大小",
    "Flows": "流",
    "Paths": "路径",
    "NAT": "NAT",
    "kcptun": "kcptun",
    "Process": "进程",
}

_YES_NO = "yes, true, 1, no, false, 0"
_ADDRESSES = "地址或域名，以逗号分隔"
_BANDWIDTH = "bit/s，可加 K M G（1024）或 k m g（1000）"
_MANUAL = "kcp=manual 时必填"
_WINDOW = "段数，0 = 取自预设"
_MOST = "最多 65535；负数：错误"
_CLAMPED = "取范围内最接近的值"
_FIB = "路由表"

ZH: dict[str, Words] = {
    "mode": Words("client, relay, server", "必填", "本节点的角色：客户端、中继或服务端。每个文件只写一次。"),
    "listen_on": Words(_ADDRESSES, "所有网卡", "监听的地址。客户端不向任何人要求密码：写 127.0.0.1 时只为本机服务。", limits="{} 用于客户端：见 listen_port"),
    "listen_port": Words(
        "1-65535；列表与范围：3000-3010,4000", "必填", "监听的端口。客户端只监听最小的一个，TCP 与 UDP 都监听。",
        limits="{} 用于客户端：[custom_input…] 各节中的端口",
    ),
    "destination_address": Words(
        _ADDRESSES, "必填",
        "客户端、[forwarder]：下一个节点的地址，各地址须通往同一节点。服务端：目标的地址，只能有一个。",
        limits="{} 用于服务端：由客户端选择目标",
    ),
    "destination_port": Words(
        "1-65535；列表与范围", "必填",
        "客户端、[forwarder]：下一个节点的端口，kcpg 使用其中任意一个。服务端：目标的端口，只能有一个。",
        limits="{} 用于服务端：由客户端选择目标",
    ),
    "destination_dnstxt": Words(
        "域名", "无",
        "此域名的 DNS TXT 记录含有地址和端口，如 203.0.113.7:3000 或 [2001:db8::7]:3000，取代以上两项。多条记录须通往同一节点。"
        "TTL 到期时以及链路无应答时，kcpg 会重新查询。",
    ),
    "destination_is": Words(
        "node, servers", "node",
        "多个地址是什么。node：同一节点的地址；servers：每个地址是使用同一密钥的另一台服务器，链路和它的流留在原来的服务器上。见 fleet.md。",
    ),
    "ipv4_only": Words(_YES_NO, "no", "不使用 IPv6。没有 IPv6 的系统必须设置。在中继的各节之外，只有 yes 起作用。"),
    "ipv6_only": Words(_YES_NO, "no", "不使用 IPv4。在中继的各节之外，只有 yes 起作用。"),
    "allow_targets": Words(
        "网段、域名、*.域名、*；后面都可以加 :端口 或 :端口-端口；前面加 ! 表示禁止", "除下述规则禁止的之外，任意目标",
        "使用 {} 时，客户端可以选择的目标，例如 10.0.0.0/8:22,[fd00::/8]:80-90,*.example.org；以及不可以选择的目标，例如 "
        "!10.0.0.0/8,!*.example.net。禁止的规则优先；只有禁止的规则时，其余都允许。网段也适用于域名解析出的地址。"
        "链路本地地址和云服务的元数据地址（169.254.0.0/16、fe80::/10 等）一律禁止，除非某条规则写明它们或其一部分。",
    ),
    "socks_port": Words(
        "1-65535", "无",
        "供本机程序使用的代理端口：SOCKS5（TCP 与 UDP）和 HTTP 的 CONNECT。目标由程序选择，因此服务端需要 "
        "destination_port={}。除非 listen_on 另有指定，只监听 127.0.0.1；不要求密码。",
    ),
    "listen_path": Words(
        "绝对路径", "无", "供应用程序连接的 UNIX 套接字，可与 listen_port 并用，也可代替它。被杀死的进程留下的文件会被替换。"
    ),
    "destination_path": Words(
        "绝对路径", "无",
        "作为 TCP 流目标的 UNIX 套接字。若同时写了 destination_address 和 destination_port，则它们是 UDP 流的目标。",
    ),
    "proxy_protocol": Words(
        "off, v2", "off",
        "在每条 TCP 连接的开头说明应用程序的地址（HAProxy 的 PROXY 协议）。服务端：向目标发送第 2 版，目标必须支持。"
        "客户端：由前面的负载均衡器发来（第 1 版或第 2 版），没有它的连接会被拒绝。",
    ),
    "dialect": Words(
        "native, kcptube, kcptun", "native",
        "节点之间的协议。kcptube、kcptun：即这两个程序的协议，用于对端运行它们的情形；两者都较弱，功能较少，每次启动时都会有警告说明。"
        "见 kcptube.md 和 kcptun.md。",
    ),
    "encryption_algorithm": Words(
        f"{', '.join(ALGORITHMS)}；kcptun 时：{', '.join(KCPTUN_ALGORITHMS)}, XOR, none",
        "有密码或密钥时为 AES-GCM（kcptun 时为 aes），否则为 none",
        "隧道的加密算法，两端必须相同。none 和 XOR 只能防止意外损坏，null 连这也不能。",
    ),
    "encryption_password": Words("任意文字", "无", "两端共有的密码，必须相同。"),
    "encryption_password_file": Words(
        "路径，相对于配置文件", "无", "存放密码的文件。文件末尾的换行不计入密码。"
    ),
    "encryption_key": Words(
        "32 字节的 base64，由 kcpg keygen 生成", "无", "代替密码的密钥：无法被猜出，节点启动也更快。"
    ),
    "private_key_file": Words(
        "路径，相对于配置文件", "无",
        "存放本节点私钥的文件，由 kcpg keygen --pair FILE 写成。使用密钥对的节点以公钥相认：见 users.md。"
        "还可以另设密码或密钥。${CREDENTIALS_DIRECTORY}/NAME：systemd 单元的凭据。",
    ),
    "private_key": Words(
        "32 字节的 base64，由 kcpg keygen --pair 生成", "无", "私钥本身，代替 private_key_file。"
    ),
    "server_key": Words(
        "32 字节的 base64", "无", "下一个节点监听侧的公钥，没有其他人能冒充它。须有 private_key_file。"
    ),
    "users": Words(
        "路径，相对于配置文件", "无",
        "可以建立链路的用户的文件，或存放这类文件（*.conf）的目录：见 users.md。重新加载立即生效，"
        "不再获准的用户的链路随即关闭。须有 private_key_file。",
    ),
    "kcp": Words(
        "fast1-6, regular1-5, manual, auto", "regular5",
        "下面各 kcp_ 项的预设；数字越小，重传越早。auto 自行适应：推荐使用。",
    ),
    "kcp_nodelay": Words("0, 1, 2", _MANUAL, "超时如何增长。0：加倍；1：增加该段自身超时的一半；2：增加链路超时的一半。"),
    "kcp_interval": Words("0-5000 ms", _MANUAL, "往返时间与超时之间的最小余量。", limits=_CLAMPED),
    "kcp_resend": Words(
        "0 以上", _MANUAL, "后面有这么多段被确认后，重发缺失的段；0：只在超时后重发。", limits=_CLAMPED
    ),
    "kcp_nc": Words(_YES_NO, _MANUAL, "yes：不使用拥塞窗口，推荐。no：每次丢包都会缩小窗口。"),
    "kcp_sndwnd": Words(_WINDOW, "取自预设", "每条流在途的段数上限。", limits=_MOST),
    "kcp_rcvwnd": Words(_WINDOW, "取自预设", "为较慢的读取方保留的段数上限。", limits=_MOST),
    "blast": Words(_YES_NO, "no", "为兼容 kcptube 而接受：kcpg 总是立即发送，从不等到下一个时钟周期。"),
    "outbound_bandwidth": Words(_BANDWIDTH, "不限", "本节点发送的最高速率。"),
    "inbound_bandwidth": Words(_BANDWIDTH, "不限", "本节点接收的最高速率。"),
    "users_bandwidth": Words(
        _BANDWIDTH, "不限",
        "与 users 一起使用：本节点向所有用户发送的总速率上限。每个用户得到相等的一份，需要更多的用户分享别人用不完的部分，"
        "与各自有多少链路和流无关。",
    ),
    "mtu": Words(
        "576-65535 字节，0 = 未设置", "自动发现",
        "网络能传送的最大 IP 包；kcp_mtu 比它小 48 字节（ipv4_only 时小 28）。未设置时，kcpg 自行发现路径 MTU 并跟随其变化。"
        "kcpg 从不分片。",
    ),
    "kcp_mtu": Words("528-65507 字节，0 = 未设置", "自动发现", "UDP 载荷的上限，一切包含在内。优先于 mtu。"),
    "fec": Words(
        "D:R（D + R 最多 255）, auto, off", "kcp=auto 时为 auto，否则为 off",
        "每 D 个数据报附加 R 个冗余数据报。auto：按丢包的需要，大流量时不加。只作用于本端发送的数据，对端另行设置。任一边为 0：关闭。",
    ),
    "udp_timeout": Words(
        "1-65535 s，0 = 默认", "180",
        "UDP 流在这么久没有数据包后结束。中继等待的时间与它的两端相同，再加 5 s。", limits="使用默认值",
    ),
    "udp_delivery": Words(
        "unordered, ordered, datagram", "unordered",
        "UDP 包如何到达。unordered：重发丢失的包，每个包一到就交付；ordered：丢失的包会让后面的等待；datagram：流建立之后不再重发。"
        "以客户端的设置为准。",
    ),
    "dial_timeout": Words(
        "1-65535 s", "30", "一条流最多等待多久：在服务端等待目标接受，在客户端或 [forwarder] 等待通往下一个节点的链路。"
    ),
    "speedtest": Words(
        _YES_NO, "yes",
        "回应拨入方的 kcpg speedtest。测试与其他的流一样，受所在链路的带宽和份额限制，最多持续 30 s。",
    ),
    "max_flows": Words("1-1000000", "65536", "同时存在的流的上限；超出的会被拒绝。"),
    "name": Words("字母、数字以及 - _ .（最多 64 个）", "文件名去掉后缀", "这个节点在日志、状态和指标中的名字。"),
    "answer_wrong_clock": Words(
        "yes, true, 1, no, false, 0", "yes",
        "拨入节点的时钟相差一分钟以上时，告诉它现在几点；没有电池的机器需要这个。no：不作任何回答，这样没有人能用旧握手的副本"
        "发现这个节点。",
    ),
    "max_links": Words(
        "1-1000000", "65536",
        "同时存在的链路的上限。达到上限时，链路最多的地址（/32，IPv6 为 /64）让出：其中没有回应的链路被关闭。",
    ),
    "memory": Words(
        "4M-1024G 字节，可带 K M G（1024）或 k m g（1000）", "机器内存的八分之一，8M 到 320M",
        "各条流已发送、已收到而尚未被读取的数据一共可用的内存。内存渐满时，链路和流各得一份：见 limits.md。",
    ),
    "metrics_listen": Words(
        "地址:端口", "无",
        "这个进程在此向 Prometheus 提供它所有节点的指标，例如 127.0.0.1:9150。能连到这个地址的人都能读取。见 status.md。",
    ),
    "health_listen": Words(
        "地址:端口", "无",
        "这个进程在此用 HTTP 告诉负载均衡器和探测程序，它的节点能否接收新的客户端：200 表示可以；有节点正在退出、已满，或者没有到下一节点的"
        "链路时为 503。见 fleet.md。",
    ),
    "web_listen": Words(
        "地址:端口", "无",
        "这个进程在此向浏览器显示它的链路、流和最近一小时的曲线，例如 127.0.0.1:9151。页面只读。本机回环以外的地址需要 web_token。见 status.md。",
    ),
    "web_token": Words(
        "至少 16 个字符，例如由 kcpg keygen 生成", "无",
        "与 web_listen 并用：浏览器先打开一次 http://地址:端口/?token=…。它不加密地传输：在本机以外只应经过隧道或带 TLS 的代理。",
    ),
    "drain_timeout": Words(
        "0-86400 s", "5（--drain）",
        "节点收到结束的要求后，各条流还有多少时间完成。拨入的节点这时转往别处，并在那里打开新的流。第二个信号使节点立即结束。",
    ),
    "keep_alive": Words("0-65535 s", "0（关闭）", "这么久没有数据报时，kcpg 请对端给出回应。", limits=_CLAMPED),
    "mux_tunnels": Words(
        "0-65535", "1",
        "所有流共用的路径数。每条路径是一条有自己 UDP 端口的链路，启动时建立；新的流选择流最少的路径。0：每条流有自己的路径，"
        "在下一个节点有自己的链路。最多同时打开 100 条，超出后共用。outbound_bandwidth 对所有路径合计，inbound_bandwidth 对每条分别计算。"
        "dialect=kcptube 时默认为 0。", limits=_CLAMPED,
    ),
    "dport_refresh": Words(
        "0, 20-32767 s", "60", "链路多久换一次源端口和目的端口；0：只在端口变坏时更换。dialect=kcptun 时（默认 0）由新的会话接收新的流，与它的 autoexpire 相同。",
        limits="1-19 视为 20，更大的视为 32767；负数是错误",
    ),
    "dscp": Words("0-63，或名称：EF, CS1, AF41", "0", "隧道数据报的区分服务码点，网络据此区分流量（RFC 2474）。"),
    "bind_device": Words("网卡名称", "按路由", "隧道套接字使用的网卡，不管路由怎么说。"),
    "fwmark": Words(
        "0-4294967295，或十六进制", "无",
        "隧道数据包的标记，供本机的路由规则和防火墙使用，可以避免隧道套进自身。需要 CAP_NET_ADMIN。",
    ),
    "stun_server": Words(
        "主机 或 主机:端口", "无",
        "用来查询监听端口公网地址的 STUN 服务器。kcpg 每 25 至 30 s 查询一次，以保持 NAT 映射，并把地址写入日志和 log_path 中的 "
        "ip_address.txt。要求恰好一个 listen_port，至多一个 listen_on。默认端口：3478。",
    ),
    "update_ipv4": Words(
        "程序的路径", "无",
        "每得到一个新的公网 IPv4 地址就运行的程序，地址作为参数，例如 203.0.113.7:3000。不经过 shell，最多运行 30 s。需要 stun_server。",
    ),
    "update_ipv6": Words(
        "程序的路径", "无",
        "每得到一个新的公网 IPv6 地址就运行的程序，地址作为参数，例如 [2001:db8::7]:3000。不经过 shell，最多运行 30 s。需要 stun_server。",
    ),
    "nocomp": Words(_YES_NO, "no", "dialect=kcptun 时：不压缩；必须与服务端相同。服务端会自己发现。"),
    "smuxver": Words(
        "1, 2", "1",
        "dialect=kcptun 时：smux 的版本；必须与服务端相同。kcptun 的默认值在 2025 年十一月之前为 1，之后为 2。服务端会自己发现。",
    ),
    "smuxbuf": Words("65536-1073741824 字节", "4194304", "dialect=kcptun 时：一个会话为较慢的读取方保留多少。"),
    "streambuf": Words(
        "65536-1073741824 字节", "2097152", "dialect=kcptun 且 smux 为 2 时：一条流为较慢的读取方保留多少。"
    ),
    "framesize": Words("1024-65535 字节", "8192", "dialect=kcptun 时：发送的帧的上限。"),
    "scavengettl": Words("1 s 以上", "600", "dialect=kcptun 时：被取代的会话还带着它的流继续多久。"),
    "log_path": Words("已存在的目录", "无", "存放日志文件和 ip_address.txt 的目录。"),
    "log_level": Words(
        "trace, debug, info, warning, error", "info",
        "写入日志的最低级别。trace：还有拥塞控制对每条链路的判断，每秒最多 20 次。",
    ),
    "workers": Words(
        "1-64, auto", "1",
        "运行本节点的进程数；auto：每个处理器核心一个。见 workers.md。客户端把带宽分给各进程，各种节点都把 max_flows 分给各进程。",
    ),
    "user": Words(
        "名称或编号", "无",
        "打开端口、日志和状态之后，进程所变成的用户；只有 root 能这样做。为了重新加载，它保留绑定 1024 以下端口的权利，root 的其他权利都放弃。"
        "该用户须能读取配置以便重新加载，须能写入 log_path 以便轮换日志和写 ip_address.txt；update_ipv4 以此用户运行。同一进程的各文件须相同。",
    ),
    "group": Words("名称或编号", "该用户自己的", "与 user 并用：进程所得到的组。"),
    "fib_ingress": Words("0-65535", "系统默认", "FreeBSD：入站流量的路由表。", limits=_CLAMPED, pending=_FIB),
    "fib_egress": Words("0-65535", "系统默认", "FreeBSD：出站流量的路由表。", limits=_CLAMPED, pending=_FIB),
}  # fmt: skip
