"""The three gateway devices' configurations of document 001, step 3, typed by hand: every command in its order, comments left out.

Masked values are mapped: public addresses 11.XX.XX.N to 198.51.100.N, the cloud's gateway addresses 120.XX.XX.191, 47.XX.XX.213 and
47.XX.XX.161 to 203.0.113.191, .213 and .161, the provider's next hops 192.XX.XX.172 to 174 to 192.0.2.172 to 174. Keys keep
their stars.
"""

from __future__ import annotations

SHOWN: dict[int, str] = {
    1: """\
interface GigabitEthernet0/0
 nameif outside1
 security-level 0
 ip address 198.51.100.1 255.255.255.255
interface GigabitEthernet0/1
 nameif private
 security-level 100
 ip address 192.168.50.216 255.255.255.0
""",
    2: """\
interface GigabitEthernet0/0
 nameif outside1
 security-level 0
 ip address 198.51.100.2 255.255.255.255
interface GigabitEthernet0/1
 nameif private
 security-level 100
 ip address 192.168.50.218 255.255.255.0
""",
    3: """\
interface GigabitEthernet0/0
 nameif outside1
 security-level 0
 ip address 198.51.100.3 255.255.255.255
interface GigabitEthernet0/1
 nameif private
 security-level 100
 ip address 192.168.50.213 255.255.255.0
""",
}
"""``show running-config interface`` of device 1 to 3: 8 lines."""

ADDED: dict[int, str] = {
    1: """\
crypto ikev2 enable outside1
crypto ikev2 policy 10
 encryption aes
 integrity sha
 group 14
 prf sha
 lifetime seconds 86400
crypto ipsec ikev2 ipsec-proposal ALIYUN-PROPOSAL
 protocol esp encryption aes
 protocol esp integrity sha-1
crypto ipsec profile ALIYUN-PROFILE
 set ikev2 ipsec-proposal ALIYUN-PROPOSAL
 set ikev2 local-identity address
 set pfs group14
 set security-association lifetime seconds 86400
 set security-association lifetime kilobytes unlimited
tunnel-group 203.0.113.191 type ipsec-l2l
tunnel-group 203.0.113.191 ipsec-attributes
 ikev2 remote-authentication pre-shared-key fddsFF123****
 ikev2 local-authentication pre-shared-key fddsFF123****
interface Tunnel1
 nameif ALIYUN1
 ip address 169.254.10.2 255.255.255.252
 tunnel source interface outside1
 tunnel destination 203.0.113.191
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile ALIYUN-PROFILE
 no shutdown
route outside1 203.0.113.191 255.255.255.255 192.0.2.172
route private 192.168.0.0 255.255.255.0 192.168.50.215
route private 192.168.1.0 255.255.255.0 192.168.50.215
route private 192.168.2.0 255.255.255.0 192.168.50.215
router bgp 65530
 address-family ipv4 unicast
  neighbor 169.254.10.1 remote-as 65531
  neighbor 169.254.10.1 ebgp-multihop 255
  neighbor 169.254.10.1 activate
  network 192.168.0.0 mask 255.255.255.0
  network 192.168.1.0 mask 255.255.255.0
  network 192.168.2.0 mask 255.255.255.0
 exit-address-family
""",
    2: """\
crypto ikev2 enable outside1
crypto ikev2 policy 10
 encryption aes
 integrity sha
 group 14
 prf sha
 lifetime seconds 86400
crypto ipsec ikev2 ipsec-proposal ALIYUN-PROPOSAL
 protocol esp encryption aes
 protocol esp integrity sha-1
crypto ipsec profile ALIYUN-PROFILE
 set ikev2 ipsec-proposal ALIYUN-PROPOSAL
 set ikev2 local-identity address
 set pfs group14
 set security-association lifetime seconds 86400
 set security-association lifetime kilobytes unlimited
tunnel-group 203.0.113.213 type ipsec-l2l
tunnel-group 203.0.113.213 ipsec-attributes
 ikev2 remote-authentication pre-shared-key fddsFF456****
 ikev2 local-authentication pre-shared-key fddsFF456****
interface Tunnel1
 nameif ALIYUN1
 ip address 169.254.11.2 255.255.255.252
 tunnel source interface outside1
 tunnel destination 203.0.113.213
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile ALIYUN-PROFILE
 no shutdown
route outside1 203.0.113.213 255.255.255.255 192.0.2.173
route private 192.168.0.0 255.255.255.0 192.168.50.217
route private 192.168.1.0 255.255.255.0 192.168.50.217
route private 192.168.2.0 255.255.255.0 192.168.50.217
router bgp 65530
 address-family ipv4 unicast
  neighbor 169.254.11.1 remote-as 65531
  neighbor 169.254.11.1 ebgp-multihop 255
  neighbor 169.254.11.1 activate
  network 192.168.0.0 mask 255.255.255.0
  network 192.168.1.0 mask 255.255.255.0
  network 192.168.2.0 mask 255.255.255.0
 exit-address-family
""",
    3: """\
crypto ikev2 enable outside1
crypto ikev2 policy 10
 encryption aes
 integrity sha
 group 14
 prf sha
 lifetime seconds 86400
crypto ipsec ikev2 ipsec-proposal ALIYUN-PROPOSAL
 protocol esp encryption aes
 protocol esp integrity sha-1
crypto ipsec profile ALIYUN-PROFILE
 set ikev2 ipsec-proposal ALIYUN-PROPOSAL
 set ikev2 local-identity address
 set pfs group14
 set security-association lifetime seconds 86400
 set security-association lifetime kilobytes unlimited
tunnel-group 203.0.113.161 type ipsec-l2l
tunnel-group 203.0.113.161 ipsec-attributes
 ikev2 remote-authentication pre-shared-key fddsFF789****
 ikev2 local-authentication pre-shared-key fddsFF789****
interface Tunnel1
 nameif ALIYUN1
 ip address 169.254.12.2 255.255.255.252
 tunnel source interface outside1
 tunnel destination 203.0.113.161
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile ALIYUN-PROFILE
 no shutdown
route outside1 203.0.113.161 255.255.255.255 192.0.2.174
route private 192.168.0.0 255.255.255.0 192.168.50.214
route private 192.168.1.0 255.255.255.0 192.168.50.214
route private 192.168.2.0 255.255.255.0 192.168.50.214
router bgp 65530
 address-family ipv4 unicast
  neighbor 169.254.12.1 remote-as 65531
  neighbor 169.254.12.1 ebgp-multihop 255
  neighbor 169.254.12.1 activate
  network 192.168.0.0 mask 255.255.255.0
  network 192.168.1.0 mask 255.255.255.0
  network 192.168.2.0 mask 255.255.255.0
 exit-address-family
""",
}
"""What the document has added on device 1 to 3: 41 commands."""

CONFIGURATIONS = {number: SHOWN[number] + ADDED[number] for number in SHOWN}
"""The whole of each, as the text of one file."""
