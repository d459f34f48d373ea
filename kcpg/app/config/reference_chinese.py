"""The texts around the table of keys in simplified Chinese, for `docs/zh/configuration.md`; what they say is what
`reference.py` says."""

from __future__ import annotations

from kcpg.app.config.keys import Scope

HEAD = """\
# 配置参考

<!-- 由 kcpg/app/config/keys.py 和 chinese.py 生成：python -m kcpg.app.config.reference docs/zh/configuration.md -->

一个文件描述一个节点。要在一个进程中运行多个节点，在命令行上写多个文件即可。`kcpg --check-config FILE…` 一次报告所有错误，
包括文件、行号、键、原因和提示；`kcpg help config KEY` 解释一个键。

```
mode=client
listen_on=127.0.0.1
listen_port=59000
destination_address=203.0.113.7
destination_port=3000-3010
encryption_algorithm=AES-GCM
encryption_password=the secret both ends share
```

## 语法

- 每行一个 `key=value`，在第一个 `=` 处分开。键与值两边的空白不计；键不分大小写。
- 空行和以 `#` 开头的行不计。值的后面不能写注释：在自由文字（密码、路径）中它是值的一部分，在其他值中会被去掉，两种情况都有警告。
- 没有值的键不计（警告）。一个键写了两次时，以最后一行为准（警告）；`mode` 只能写一次（错误）。`{}` 与普通的值写在两行时，两者都有效。
- 未知的键、节或值是错误；kcpg 不会悄悄忽略任何东西。
- 数字为十进制。与 kcptube 相同，只取开头的数字，其余忽略并警告：`300MM` 即 `300M`。
- 带宽的单位是 bit/s；`K M G` 是 1024 的幂，`k m g` 是 1000 的幂，`1000` 就是 1000 bit/s。
- 端口列表：`3000`、`3000-3010`、`3000-3010,4000`。kcpg 会排序并去掉重复。
- 地址：IPv4、IPv6（可加方括号，链路本地地址可加 `%zone`）或域名。
- 全角标点（`＝`、`，`、`：`、`－` 和全角数字）按半角理解并给出警告；密码和路径除外，它们保持原样。
- 文件可以是 UTF-8，有无 BOM 皆可，换行可以是任何系统的。密码是两边空白之间的那些字节，取决于文件的编码；两端的字节必须相同，
  因此不是 UTF-8 的密码会有警告。

## 节

中继有两节，都必须写：`[listener]` 朝向客户端，`[forwarder]` 朝向服务端。下表中位置为*中继*或*任何位置*的键也可以写在两节之外、
第一节之前。写在那里时，它会**覆盖**两节中相同的键，两者不同时会警告。`ipv4_only` 和 `ipv6_only` 只有 `yes` 才会覆盖。

客户端可以有 `[custom_input]`、`[custom_input_tcp]` 和 `[custom_input_udp]`，其中的行如

```
127.0.0.1:13389 -> 203.0.113.9:3389
:5000-5010 -> [::1]:6000-6010
```

`listen_port={}` 使它们生效，可以单独写，也可以与普通的 `listen_port` 并用。服务端需要 `destination_port={}`；它的 `allow_targets`
限制客户端可以选择的目标。一个范围对应同样长的范围，或者对应一个端口。中继不需要设置：它会传递目标。

## NAT 后面的服务端

如果服务端的地址会变，或者前面的路由器给它分配另外的端口，服务端可以自己查出并公布地址：

```
listen_port=3000
stun_server=stun.example.org
update_ipv4=/usr/local/bin/publish
log_path=/var/log/kcpg
```

kcpg 以地址为参数运行该程序，例如 `publish 203.0.113.7:41000`，启动后一次，以后每次变化一次。该程序可以把地址写入 DNS TXT 记录，
客户端和中继从那里找到它：

```
destination_dnstxt=tunnel.example.org
```

```
tunnel.example.org.  60  IN  TXT  "203.0.113.7:41000"
```

每条 TXT 记录中每个这种形式（或 `[2001:db8::7]:3000`）的字符串都是同一节点的地址；其他字符串跳过并警告。kcpg 在启动时、链路无应答时查询，
并按 TTL 重复查询，但最多每 30 s 一次，至少每小时一次。正常工作的链路留在原处。查询失败时，保留已有的地址。路由器必须放行服务端未曾联系过的
对端：转发的端口可以，只为 STUN 服务器打开端口的 NAT 不行。

## 中继的 udp_timeout

中继不能比客户端和服务端更早忘记一条 UDP 流。它等待它所知道的最大的 `udp_timeout` 再加 5 秒：它自己的，以及同一命令行上客户端和服务端的。
对不在场的一端，按默认值计算。中继自己的值更小时会警告。
"""

COLUMNS = "| 键 | 可取的值 | 默认 | 位置 | 含义 |\n|---|---|---|---|---|\n"

WHERE = {
    Scope.CLIENT: "客户端",
    Scope.SERVER: "服务端",
    Scope.RELAY: "中继",
    Scope.LISTENER: "[listener]",
    Scope.FORWARDER: "[forwarder]",
}
EVERYWHERE = "任何位置"
OTHER_VALUES = "其他值：{}。"
PENDING = "会检查，但在此版本中不起作用（{}）。"
OWN = "kcpg 独有。"

TAIL = """\
## KCP 预设

| kcp | nodelay | interval ms | resend | nc | 窗口 |
|---|---|---|---|---|---|
"""

DIFFERENCES = """
`auto` 用于各个示例，它测量速率和窗口，无需配置。本端按路径所能传送的速度发送，保持队列很短，不因丢包而变慢。`outbound_bandwidth` 和
`inbound_bandwidth` 仍是上限；上表的窗口，或 `kcp_sndwnd` 和 `kcp_rcvwnd`，是窗口可以增长到的最大值。`auto` 只管本端发送的数据：两端都要设置。
其他预设按窗口所能容纳的量发送，速率不限，或按 `outbound_bandwidth`。

## 与 kcptube 的不同

kcpg 能读 kcptube 的文件。在 kcptube 的程序与其文档不一致的地方，kcpg 以文档为准：

| | kcptube 的程序 | kcpg |
|---|---|---|
| `ipv4_only=0`、`ipv6_only=no` | 反而开启限制 | 两种地址都用 |
| `outbound_bandwidth=1000` | 100 bit/s：丢失最后一位 | 1000 bit/s |
| 以 65535 结尾的端口范围 | 卡死 | 正常 |
| 同时设置 `mtu` 和 `kcp_mtu` | 以 `mtu` 为准 | 以 `kcp_mtu` 为准（警告） |
| `kcp_mtu` | KCP 自己的，比数据报小 22 字节 | UDP 数据报的内容 |
| `blast` | 默认开启；关闭时数据等待下一个时钟周期 | 数据总是立即离开 |
| `listen_on` 中的域名 | 启动时拒绝 | 启动时解析 |
| 写在各节之外的 `kcp=manual` | 其数字不会被复制 | 会被复制 |
| 有密码而没有 `encryption_algorithm` | 不加密 | AES-GCM；`dialect=kcptube` 时为错误 |
| 没有 `mux_tunnels` | 0 | 1；`dialect=kcptube` 时为 0 |
| 节外写 `encryption_algorithm=none`，节内写加密算法 | 不覆盖 | 错误 |
| 以 `on`、`off` 表示是与否 | 都表示否 | 错误并提示 |
| `1.5G`、`0x10` | 1G、0 | 错误并提示 |
| 没有值的未知键 | 忽略 | 错误 |
| 文件有错时的退出码 | 0 | 2 |

kcptube 不认识标有*kcpg 独有*的键，会拒绝含有它们的文件。
"""
