"""Packets of pcap and pcapng files, and the flows and evidence made of them."""
