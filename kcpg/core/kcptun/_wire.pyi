"""The compiled data plane has the interface of the plain-Python one."""

from kcpg.core.kcptun.cipher import Cipher as Cipher
from kcpg.core.kcptun.fec import ShardReceiver as ShardReceiver
from kcpg.core.kcptun.fec import ShardSender as ShardSender
from kcpg.core.kcptun.smux import Parser as Parser
from kcpg.core.kcptun.wire import TunConv as TunConv
from kcpg.core.kcptun.wire import TunWire as TunWire
